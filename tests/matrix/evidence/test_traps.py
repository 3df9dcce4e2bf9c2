"""Planted traps: an arm that is better by eight standard deviations and not
comparable must come out NON_DIAGNOSTIC in every file of the report, with the reason.
"""

import csv
import io
import json
from pathlib import Path

import pytest

from matrix.report.plots import common
from matrix.report.write import render_terminal, write
from matrix.results.selection import SCREEN
from records import atomic, jsonl
from tests.matrix.evidence.test_weigh import SEEDS, row, runs, section
from tests.matrix.report.test_files import Page
from tests.matrix.synthetic import START, TOKENS_PER_STEP, Cell

TRAP, HONEST = "01-trap", "02-honest"
GPU = {"kind": "cuda", "name": "NVIDIA H200", "total_memory": 1, "driver": "570"}
OTHER_GPU = {**GPU, "name": "NVIDIA A10G"}
EARLY = {"stopped_by": "time", "tokens": 90 * TOKENS_PER_STEP}

# What the arm's runs record otherwise, and how the reason begins.
TRAPS = {
    "batch": (
        {"facts": {"effective_batch": 32, "tokens_per_step": 2 * TOKENS_PER_STEP}},
        "different effective batch: 32 in 01-trap",
    ),
    "compile": ({"facts": {"compile": True}}, "different compile: True in 01-trap"),
    "dataset": (
        {"identity": {"dataset": "cd" * 32}},
        "different dataset: cdcdcdcdcdcd in 01-trap",
    ),
    "gpu": (
        {"summary": {"device": OTHER_GPU}},
        "different device: NVIDIA A10G in 01-trap",
    ),
    "time": ({"summary": EARLY}, "different end of training: time in 01-trap"),
    "windows": (
        {"values": {"GPT2_EVAL_WINDOWS": 9}},
        "different evaluation windows: 9 in 01-trap",
    ),
    "code": (
        {"identity": {"code": "ab" * 32}},
        "different code hash: abababababab in 01-trap",
    ),
}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def study(output: Path, change: dict, seeds=SEEDS) -> Path:
    """A control, the trap with `change` in these seeds, and an honest arm."""
    change = dict(change)
    both = {"summary": {"device": GPU}} if "gpu" in str(change).lower() else {}
    change["values"] = {"INIT_SALT": "", **change.get("values", {})}
    runs(output, "00-control", **both)
    runs(output, TRAP, -0.01, **both, **{f"seed{k}": change for k in seeds})
    runs(output, HONEST, -0.01, **both)
    return output / "demo"


def caught(directory: Path, reason: str) -> None:
    """Every file of the report says so, and the honest arm keeps its claim."""
    paths = write(directory)
    text = paths.markdown.read_text()
    told = row(text, TRAP)
    assert told[1] == r"NON\_DIAGNOSTIC"
    behind = row(section(text, "Verdicts").split("numbers behind")[1], TRAP)
    numbers = [*told[2:4], *behind[1:-1]]
    assert set(numbers) == {"–"}, "no number that could be taken for a result"
    verdict = paths.report.evidence.of(TRAP)
    assert any(line.startswith(reason) for line in verdict.reasons), verdict.reasons
    words = "".join(Page(paths.html.read_text()).words)
    assert "NON_DIAGNOSTIC" in words and reason in words
    shown = " ".join(render_terminal(paths.report).split())
    assert f"{TRAP}: NON_DIAGNOSTIC" in shown and reason in shown
    honest = paths.report.evidence.of(HONEST)
    assert honest.label == "SUPPORTED better"
    assert honest.measured.adjusted == pytest.approx(2 * honest.measured.p)
    rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
    assert len(rows) == 3 * len(SEEDS), "nothing is left out of runs.csv"


def test_the_arm_is_convincing_without_a_trap(tmp_path):
    found = write(study(tmp_path, {})).report.evidence
    assert [v.label for v in found.verdicts] == ["SUPPORTED better"] * 2


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("seeds", [SEEDS, [4]], ids=["all seeds", "one seed"])
def test_a_property_that_must_match(tmp_path, name, seeds):
    change, reason = TRAPS[name]
    if len(seeds) == 1:
        reason += f" (seed {seeds[0]})"
    caught(study(tmp_path, change, seeds), reason)


def test_a_run_resumed_under_another_torch(tmp_path):
    directory = study(tmp_path, {})
    path = Cell(TRAP, 4, ()).path(tmp_path) / "attempts.jsonl"
    with jsonl.open_append(path) as attempts:
        for number, torch in ((2, "2.13.0"), (3, "2.11.0")):
            start = {"event": "start", "attempt": number, "time": START}
            attempts.append({**start, "torch": torch})
    reason = "01-trap seed 4 was resumed under another torch: 2.13.0, then 2.11.0 (01-t"
    caught(directory, reason)


def test_seeds_of_a_screening(tmp_path):
    """The run remembers its stage; no promotion need be there."""
    directory = study(tmp_path, {})
    for seed in (1, 2, 3):
        path = Cell(TRAP, seed, ()).path(tmp_path) / "run.json"
        record = json.loads(path.read_text())
        record["cell"]["stage"] = SCREEN
        atomic.write_json(path, record)
    caught(directory, "screening seeds re-used: 1-3; a verdict takes fresh seeds")


def test_the_control_can_be_the_trap(tmp_path):
    """Then no arm can be judged."""
    runs(tmp_path, "00-control", seed2={"facts": {"dtype": "bf16"}})
    for step in (TRAP, HONEST):
        runs(tmp_path, step, -0.01)
    found = write(tmp_path / "demo").report.evidence
    for verdict in found.verdicts:
        assert verdict.label == "NON_DIAGNOSTIC"
        assert verdict.reasons[0].startswith("different dtype: bf16 in 00-control (se")


def test_one_step_may_hold_several(tmp_path):
    """Each property has its own line."""
    change = {"facts": {"compile": True, "dtype": "bf16"}}
    found = write(study(tmp_path, change)).report.evidence.of(TRAP)
    assert [line.split(":")[0] for line in found.reasons] == [
        "different dtype",
        "different compile",
    ]
