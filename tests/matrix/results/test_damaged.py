"""A record that anybody may have changed: named, left out, and nothing else changes."""

import io
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from kconf import config_py
from kconf.overrides import COMMAND_LINE
from matrix.evidence.gather import gather
from matrix.launch.tail import Tail
from matrix.published.selection import Query
from matrix.published.sources import fetch
from matrix.report.compare import compare
from matrix.report.write import write
from matrix.results import rows
from matrix.watch import Watch, age
from records import atomic
from records.columns import REAL, WHOLE, Series
from records.jsonl import open_append
from records.layout import CellDir
from tests.fuzz.records import CRASHES, Failure, Fuzz, quick
from tests.matrix.synthetic import Cell, START

COUNT = 40
"""Corruptions of one `make test`; tests/fuzz/records.py makes any number."""


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Two steps of three seeds, to be copied."""
    output = tmp_path_factory.mktemp("template")
    for seed in (1, 2, 3):
        Cell("00-base", seed, (5.5, 3.5 + seed / 100), control=True).finish(output)
        Cell("01-ra", seed, (5.5, 3.4 + seed / 90)).finish(output)
    return output / "demo"


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A study of its own."""
    return Path(shutil.copytree(template, tmp_path / "demo"))


def watched(place: Path) -> str:
    out = Console(file=io.StringIO(), width=2000)
    out.print(Watch(place).table())
    return out.file.getvalue()


def change(path: Path, **values: object) -> None:
    atomic.write_json(path, {**json.loads(path.read_text()), **values})


def test_random_corruptions(checkout, monkeypatch):
    """Of a study of the runner: no traceback, the others' numbers, the file's name."""
    monkeypatch.undo()  # the report is asked for as well
    status, output = checkout.run("run", STEPS="0,2", SEEDS="1-3")
    assert status == 0, output
    failures = []
    checkout.configure('CONFIG_RA_MLA_ABLATION_STEPS="0,2"', 'CONFIG_SEEDS="1-3"')
    with quick():
        fuzz = Fuzz(checkout.root, 7)
        for number in range(COUNT):
            try:
                fuzz.once()
            except (Failure, *CRASHES) as error:
                failures.append(f"{number}: {fuzz.done}: {error!r}")
    assert failures == []
    assert fuzz.left_out > COUNT / 4, "the corruptions are too tame"


def test_the_plan_leaves_a_damaged_cell_alone(checkout):
    """It is named, its directory stays as it is, and the others run."""
    assert checkout.run("run", SEEDS="1", STEPS="0")[0] == 0
    (cell,) = checkout.plan(SEEDS="1", STEPS="0").cells
    change(cell.dir.summary, step=-5)
    before = cell.dir.summary.read_bytes()
    assert checkout.plan(SEEDS="1", STEPS="0").pending == []
    status, output = checkout.run("plan", SEEDS="1")
    assert status == 0 and "summary.json: step is -5" in " ".join(output.split())
    assert f"move {cell.dir.path} away" in " ".join(output.split())
    assert "1 damaged cell left alone" in output
    status, output = checkout.run("run", SEEDS="1")
    assert status == 1, "a cell without a result is no success"
    assert cell.dir.summary.read_bytes() == before
    states = [cell.state for cell in checkout.plan(SEEDS="1").cells]
    assert states == ["damaged", "done", "done"]
    status, output = checkout.run(
        "rerun", SEEDS="1", STEPS="0", **{COMMAND_LINE: "SEEDS"}
    )
    assert status == 0 and "moved" in output
    (moved,) = checkout.root.glob("results/.replaced/*/*/*/*/summary.json")
    assert moved.read_bytes() == before
    assert {c.state for c in checkout.plan(SEEDS="1").cells} == {"done"}


def test_damage_while_the_runner_waits_ends_one_cell(checkout):
    """A cell of the queue whose records were damaged since the plan is not started."""
    plan = checkout.plan(SEEDS="1", JOBS="1")
    first, second = plan.cells[:2]
    second.dir.path.mkdir(parents=True)
    second.dir.slurm.write_text('{"schema": 1, "job": "one"}')
    status, output = checkout.run("run", SEEDS="1", JOBS="1")
    assert status == 1 and "slurm.json: job is 'one'" in " ".join(output.split())
    assert not second.dir.attempts.exists() and first.dir.summary.exists()


@pytest.mark.parametrize(
    "name, values, why",
    [
        ("summary.json", {"status": "banana"}, "status is 'banana'"),
        ("summary.json", {"hash": "0" * 64}, "hash is 0000000000000000"),
        ("summary.json", {"facts": {"parameters": "x"}}, "facts.parameters is 'x'"),
        ("run.json", {"data_dir": 5}, "data_dir is 5"),
        ("run.json", {"provenance": []}, "provenance is a list"),
    ],
)
def test_every_command_names_file_and_field(
    place, template, tmp_path, capsys, name, values, why
):
    path = Cell("01-ra", 2, ()).path(tmp_path)
    change(path / name, **values)
    report = gather(place)
    assert sorted(report.study.counted) == [
        ("00-base", 1),
        ("00-base", 2),
        ("00-base", 3),
        ("01-ra", 1),
        ("01-ra", 3),
    ]
    (cell,) = report.study.open
    for words in (cell.why, watched(place), compare(place, template)):
        assert f"{name}: {why}" in words
    assert len(fetch(Query("local", study=str(place)))) == 5
    assert f"{name}: {why}" in capsys.readouterr().err


def test_a_directory_of_another_run_is_none(place, tmp_path):
    """A copy under another seed is no second seed, under another hash no other cell."""
    run = Cell("01-ra", 2, ()).path(tmp_path)
    for target in (run.parent.with_name("seed-4") / run.name, run.with_name("0" * 8)):
        shutil.copytree(run, target)
    report = gather(place)
    assert ("01-ra", 4) not in report.study.counted
    assert any(
        "seed is 2, and the directory is seed-4" in c.why for c in report.study.open
    )
    assert any("cell.hash is" in line for line in report.warnings)


def renamed(run: Path, seed: int) -> Path:
    """A copy of a run whose run.json says another seed, in a directory of that seed."""
    copy = run.parent.with_name(f"seed-{seed}") / run.name
    shutil.copytree(run, copy)
    cell = json.loads((copy / "run.json").read_text())["cell"]
    change(copy / "run.json", cell={**cell, "seed": seed})
    return copy


def damage(place: Path, step: str, seed: int) -> str:
    """What is wrong with a cell; nothing where its run counts."""
    cells = [c for c in gather(place).study.open if (c.step, c.seed) == (step, seed)]
    return "; ".join(cell.why for cell in cells)


def test_a_run_whose_seed_was_edited_is_none(place, tmp_path):
    """Its configuration has the former seed, which the hash is of."""
    run = Cell("01-ra", 2, ()).path(tmp_path)
    renamed(run, 4)
    assert "config.py: SEED is 2, that of run.json 4" in damage(place, "01-ra", 4)


def test_a_run_whose_configuration_was_edited_is_none(place, tmp_path):
    """A hash that is not of the identity says that something of it was changed."""
    run = Cell("01-ra", 2, ()).path(tmp_path)
    copy, values = renamed(run, 4), Cell("01-ra", 4, ()).symbols
    config_py.write(copy / "config.py", values, ())
    cell = json.loads((copy / "run.json").read_text())["cell"]
    identity = {**cell["identity"], "config": config_py.identity(values, ())}
    change(copy / "run.json", cell={**cell, "identity": identity})
    why = damage(place, "01-ra", 4)
    assert "run.json: cell.hash is not the hash of cell.identity" in why


def test_names_that_no_text_takes(place, tmp_path):
    """Bytes that are no UTF-8, mathematics, markup and line ends in a step's name."""
    odd = os.fsdecode(b"\xff$\\frac$ <b>\n`|x")
    (place / odd / "seed-1" / ("0" * 8)).mkdir(parents=True)
    Cell("03-$\\frac$ <b>", 1, (5.5, 3.3)).finish(tmp_path)
    with quick():  # one report, coarsely drawn
        paths = write(place)
    text = paths.html.read_text() + paths.markdown.read_text() + watched(place)
    assert "\\udcff$\\frac$" in text.replace("\\\\", "\\")
    assert (
        "<b>\n" not in text
        and '<td class="code" data-title="Step"><code>03-$\\frac$ &lt;b&gt;' in text
    )


@pytest.mark.parametrize(
    "damage", ["directory", "row", "kind", "bytes", "name", "layers"]
)
def test_damaged_rows_of_metrics(place, tmp_path, damage):
    path = Cell("01-ra", 2, ()).path(tmp_path) / "metrics.jsonl"
    row = {"kind": "eval", "attempt": 1, "step": 100, "tokens": 9, "loss": 3.0}
    told = "metrics.jsonl: line "
    if damage == "directory":
        path.unlink()
        path.mkdir()
        told = "metrics.jsonl: is a directory"
    else:
        odd = {
            "row": {k: v for k, v in row.items() if k != "step"},
            "kind": {**row, "loss": [3.0]},
            "bytes": {**row, "loss": 10**400},
            "name": {**row, "kind": "attention", "../../x": [[1.0]]},
            "layers": {"kind": "attention", "attempt": 1, "step": 1, "x": [[["a"]]]},
        }[damage]
        path.write_text(path.read_text() + json.dumps(odd) + "\n")
    (cell,) = gather(place).study.open
    assert (cell.step, cell.seed, cell.state) == ("01-ra", 2, "damaged")
    assert told in cell.why and told in watched(place)


def test_damaged_samples_are_in_no_energy(tmp_path):
    """The run counts; its energy does not, and the report says why."""
    samples = [{"time": START + k, "gpu/0/power_w": 300.0} for k in range(4)]
    Cell("00-base", 1, (5.5, 3.5), gpu=[*samples, {"time": "soon"}]).finish(tmp_path)
    (run,) = gather(tmp_path / "demo").counted
    assert run.documents["energy"] == {
        "remark": "gpu.jsonl line 5: time is 'soon', expected a number from 0 to 2.53402e+11"
    }


def test_a_tail_stops_at_damage(tmp_path):
    """Nothing behind a damaged row is shown, and nothing is raised."""
    tail = Tail(tmp_path / "metrics.jsonl")
    row = {"kind": "train", "attempt": 1, "step": 4, "loss": 3.0}
    with open_append(tail._lines.path) as file:
        file.append(row)
        tail.poll()
        file.append({**row, "step": "5"})
        file.append({**row, "step": 6})
    tail.poll()
    tail.poll()
    assert tail.step == 5 and "line 2: step is '5'" in str(tail.damage)


def beats(place: Path, host: str, ahead: float) -> CellDir:
    """An unfinished run whose holder is elsewhere, by a clock that is ahead."""
    cell = Cell("02-far", 1, (5.5,)).start(place)
    record = {"pid": 7, "host": host, "time": time.time() + ahead, "step": 1}
    for path in (cell.lease, cell.heartbeat):
        atomic.write_json(path, record)
    return cell


@pytest.mark.parametrize(
    "ahead, told", [(3600.0, r"its clock is (1h 00m|59m \d\ds) ahead"), (30, "")]
)
def test_a_clock_that_is_ahead_is_said(place, tmp_path, ahead, told):
    """And such a heartbeat holds nothing."""
    cell = beats(tmp_path, "elsewhere", ahead)
    words = watched(place)
    state = "running" if ahead < 60 else "interrupted"
    (line,) = [line for line in words.splitlines() if "02-far" in line]
    assert state in line and re.search(told, line)
    assert ahead > 60 or "its clock" not in line
    opened = {(each.step, each.seed): each for each in gather(place).study.open}
    open_ = opened["02-far", 1]
    assert open_.state == state and re.search(told, open_.why)
    beats_here = json.loads(cell.heartbeat.read_text())
    change(cell.lease, host=socket.gethostname())
    assert beats_here["pid"] == 7 and "its clock" not in watched(place)


def test_what_is_not_finite_is_no_crash():
    """A perplexity of exp(800) is infinite; its mean is, its deviation is unknown."""
    assert rows.mean([math.inf, 3.0]) == math.inf and rows.mean([]) is None
    assert math.isnan(rows.mean([math.inf, -math.inf]))
    assert rows.deviation([math.inf, 3.0]) is None and rows.deviation([1, 3]) > 1.4


def test_ages_to_either_side():
    assert age(4.2) == "4.2s ago" and age(-0.5) == "0.0s ago"
    assert age(-3600.4) == "its clock is 1h 00m ahead"


def test_the_last_row_of_a_step_counts():
    series = Series("train", {"step": WHOLE, "loss": REAL, "mfu": REAL})
    for step, loss in ((0, 4.0), (1, 3.0), (2, 2.0), (1, 3.5), (2, 2.5)):
        series.add({"step": step, "loss": loss, **({"mfu": None} if step else {})})
    series.settle(lambda step: step < 2)
    assert list(series) == [
        {"kind": "train", "step": 0, "loss": 4.0},
        {"kind": "train", "step": 1, "loss": 3.5, "mfu": None},
    ]
    assert list(series.column("loss")) == [4.0, 3.5] and series[-1]["step"] == 1
    assert list(series.column("mfu")) == [None, None] and len(series[:]) == 2


MEMORY = """
import resource, sys
from pathlib import Path
from matrix.evidence.gather import gather
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
gather(Path(sys.argv[1]))
print(peak() - before)
"""
ROWS = 50_000


def test_rows_are_read_as_columns(place, tmp_path):
    """Fifty thousand rows in less than 25 MiB: as objects they take 70."""
    path = Cell("01-ra", 1, ()).path(tmp_path) / "metrics.jsonl"
    row = {"kind": "train", "attempt": 1, "lr": 6e-4, "grad_norm": 1.5, "mfu": None}
    with open(path, "a") as file:
        for step in range(ROWS):
            more = {"step": step, "loss": 4 - 1e-7 * step, "tokens": 4096 * step}
            file.write(json.dumps({**row, **more, "time": 0.01 * step}) + "\n")
    command = [sys.executable, "-c", MEMORY, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 25
