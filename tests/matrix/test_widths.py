"""Every table that a command prints fits 100 columns, however long the steps' names."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from gpt2.check import table as check_table
from matrix.launch.display import Terminal
from matrix.plan import estimate
from matrix.report.compare import compare
from matrix.report.verdict_text import explain
from matrix.report.write import gather, render_terminal
from matrix.run import table
from matrix.watch import watch
from records.layout import CellDir
from records.text_table import WIDTH
from tests.matrix.synthetic import Cell

LONG = "07-mla-latent-reciprocal-attention-with-an-elementwise-gate-on-its-output"
STEPS = ("00-the-baseline-that-every-other-step-of-this-study-is-compared-with", LONG)


def long_enough(text: str) -> None:
    """It fits, and it shows where the long name begins."""
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)
    assert LONG[:5] in text


@pytest.fixture
def plan(checkout):
    """A plan whose cells are called LONG and have much to say."""
    plan = checkout.plan()
    why = "LEARNING_RATE 6e-4 -> 1e-3, changed code: +gpt2/a.py, " * 4
    cells = []
    for cell in plan.cells:
        seed, hash8 = cell.own.path.parts[-2:]
        own = CellDir(plan.study_dir / LONG / seed / hash8)
        cells.append(replace(cell, step=LONG, reason=why, own=own))
    cells = tuple(cells)
    return replace(plan, cells=cells)


def test_the_plan(plan):
    text = table(plan)
    long_enough(text)
    assert "LEARNING_RATE" in text and f"{len(plan.cells)} cells" in text
    one = table(replace(plan, cells=plan.cells[:1]))
    assert "1 cell (" in one


def test_the_estimate(plan):
    found = [
        estimate.Estimate(
            cell, 7384.0, 8.1e7, "12 finished cells of other studies, by F"
        )
        for cell in plan.cells
    ]
    text = estimate.text(plan, found)
    long_enough(text)
    assert "2h 03m" in text and "81,000.0 kJ" in text


def test_the_live_table(plan):
    output = io.StringIO()
    console = Console(file=output, force_terminal=False, width=WIDTH)
    live = Terminal(plan, console)
    live.started(plan.cells[0], ["python"])
    console.print(live._table())
    live.close()
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "train loss" in " ".join(text.split()) and "val loss" in text


@pytest.fixture
def study(tmp_path):
    """Two steps with long names on three seeds, in two studies."""
    for name in ("demo", "other"):
        for number, step in enumerate(STEPS):
            for seed in (1, 2, 3):
                loss = 3.3 - 0.01 * number + 0.001 * seed
                values = {"LEARNING_RATE": "6e-4" if name == "demo" else "1e-3"}
                Cell(step, seed, (5.5, loss), values=values).finish(tmp_path, name)
    return tmp_path / "demo"


def test_the_report_and_the_verdict(study):
    report = gather(study)
    long_enough(render_terminal(report))
    lines = "\n".join(explain(report, [LONG])).splitlines()
    wide = [line for line in lines if len(line) > WIDTH and "/seed-" not in line]
    assert wide == [] and any(line.startswith(LONG) for line in lines), lines


def test_a_comparison(study):
    text = compare(study, study.parent / "other")
    tables = [x for x in text.splitlines() if not x.startswith(("A ", "B "))]
    long_enough("\n".join(tables))
    assert "validation loss, nats/token" in text


def test_what_watch_shows(study):
    output = io.StringIO()
    console = Console(file=output, force_terminal=False, width=300)
    assert watch(study, once=True, console=console) == 0
    shown = [x for x in output.getvalue().splitlines() if str(study.parent) not in x]
    assert max(map(len, shown)) <= WIDTH
    head = next(x for x in shown if "state" in x)
    assert "train loss" in head and "val loss" in head


def test_the_check(capsys):
    one = check_table.Verdict(
        "toy", LONG, "", "", 1_557_611_200, 12.375, 9_340_012_345, 1_843_200, 2**37, 512
    )
    check_table.print_table([replace(one, seconds=75.0)])
    text = capsys.readouterr().out
    long_enough(text)
    assert "1m 15s" in text
