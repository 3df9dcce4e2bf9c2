"""What a person sees: lines, a table, and the tail of the metrics."""

import io
import json

import pytest
from rich.console import Console

from matrix.launch.child import Outcome
from matrix.launch.display import Plain, Terminal, display
from matrix.launch.tail import Tail
from records import atomic

FACTS = {"kind": "facts", "attempt": 1, "step": 0}
FACTS |= {"max_iters": 100, "tokens_per_step": 50}
TRAIN = {"kind": "train", "attempt": 1, "step": 39, "loss": 4.25, "tokens_per_s": 10.0}


def write(path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_tail_follows_whole_lines(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = Tail(path)
    tail.poll()
    assert (tail.step, tail.training_loss, tail.rate, tail.remaining) == (0,) + (
        None,
    ) * 3
    write(path, FACTS, {**TRAIN, "step": 0, "tokens_per_s": None})
    tail.poll()
    assert (tail.step, tail.steps, tail.remaining) == (1, 100, None)
    row = json.dumps(TRAIN)
    with open(path, "a", encoding="utf-8") as file:
        file.write(row[:20])
    tail.poll()
    assert tail.step == 1
    with open(path, "a", encoding="utf-8") as file:
        file.write(row[20:] + "\n")
    tail.poll()
    assert (tail.step, tail.training_loss, tail.remaining) == (40, 4.25, 60 * 50 / 10)


def test_tail_skips_what_an_earlier_attempt_tore(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = Tail(path)
    path.write_text('{"kind": "tr\n')
    write(path, TRAIN)
    tail.poll()
    assert tail.step == 40


@pytest.fixture
def plan(checkout):
    return checkout.plan()


def finish(cell) -> None:
    cell.dir.path.mkdir(parents=True, exist_ok=True)
    summary = {
        "schema": 1,
        "hash": cell.hash,
        "step": 3,
        "final_eval": {"step": 3, "loss": 3.25},
    }
    atomic.write_json(cell.dir.summary, summary)


def test_lines(plan, capsys):
    lines, cell = Plain(plan, every=0.0), plan.cells[0]
    lines.started(cell, ["python"])
    write(cell.dir.metrics, FACTS, TRAIN)
    lines.refresh()
    finish(cell)
    lines.ended(cell, Outcome("done"), 65.0)
    lines.ended(plan.cells[1], Outcome("failed", "killed by SIGKILL"), 1.0)
    lines.refresh()
    started, progress, done, failed = capsys.readouterr().out.splitlines()
    assert started == f"start   00-control seed-1  {cell.dir.path}"
    assert progress.strip().startswith(
        "00-control seed-1  step 40/100  train loss 4.2500 nats/token"
    )
    assert "10 tokens/s" in progress and "5m" in progress
    assert (
        done == "done    00-control seed-1  val loss 3.2500 nats/token  1m 05s  [1/6]"
    )
    assert "killed by SIGKILL" in failed and "02-wide/seed-1" in failed


def test_lines_are_rare(plan, capsys):
    lines = Plain(plan)
    lines.started(plan.cells[0], ["python"])
    lines.refresh()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_table(plan):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, height=40)
    table, (cell, other, *_) = Terminal(plan, console), plan.cells
    table.started(cell, ["python"])
    table.waiting(other, "7@elsewhere")
    write(cell.dir.metrics, FACTS, TRAIN)
    table._drawn = 0.0
    table.refresh()
    seen = output.getvalue()
    for text in ("00-control seed-1", "40/100", "4.2500", "(7@elsewhere)"):
        assert text in seen, text
    finish(cell)
    table.ended(cell, Outcome("done"), 2.0)
    table.say("[not markup]")
    table.close()
    assert "val loss 3.2500 nats/token" in output.getvalue()
    assert "[not markup]" in output.getvalue()


def test_without_a_terminal_there_are_lines(plan):
    assert isinstance(display(plan, verbose=False), Plain)
