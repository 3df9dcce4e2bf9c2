"""Runs that may not be compared, and runs that cannot be read."""

import re
from pathlib import Path

import pytest

from matrix.report.plots import common
from matrix.report.write import ReportError, gather, write
from matrix.results.metrics import VAL_LOSS, named
from matrix.results.selection import Terms, Selection
from records import atomic
from tests.matrix.synthetic import Cell

RATE = "LEARNING_RATE"


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Numbers only."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def study(output: Path, **changes: dict) -> Path:
    """Two steps with two seeds; `changes` go to cells named base1, ra2 …"""
    for step, name in (("00-base", "base"), ("01-ra", "ra")):
        for seed in (1, 2):
            change = {"values": {RATE: "3e-4"}, **changes.get(f"{name}{seed}", {})}
            Cell(step, seed, (5.5, 3.5 + seed / 1000), **change).finish(output)
    return output / "demo"


def test_an_arm_with_another_rate_than_its_control(tmp_path):
    hot = {"values": {RATE: "1e-2"}, "changes": ("MLP_DIM",)}
    (warning,) = gather(study(tmp_path, ra1=hot, ra2=hot)).warnings
    assert warning == (
        "01-ra differs from its control in CONFIG_LEARNING_RATE, which is not a line "
        'of the step: "3e-4" in 00-base, "1e-2" in 01-ra (seeds 1-2)'
    )


def test_what_the_step_changes_is_no_difference(tmp_path):
    hot = {"values": {RATE: "1e-2"}, "changes": (RATE,)}
    assert gather(study(tmp_path, ra1=hot, ra2=hot)).warnings == ()


def test_runs_of_one_step_that_differ(tmp_path):
    hot = {"values": {RATE: "1e-2"}, "changes": (RATE,)}
    changes = {"changes": (RATE,)}
    (warning,) = gather(study(tmp_path, ra1=changes, ra2=hot)).warnings
    assert warning == (
        "01-ra: its runs differ in CONFIG_LEARNING_RATE: "
        '"3e-4" in seed 1; "1e-2" in seed 2'
    )


def test_operational_symbols_may_differ(tmp_path):
    other = {"values": {RATE: "1e-2"}, "operational": (RATE,)}
    assert gather(study(tmp_path, ra2=other)).warnings == ()


def test_runs_that_do_not_record_what_their_step_changes(tmp_path):
    (warning,) = gather(study(tmp_path, ra2={"changes": None})).warnings
    assert re.match("1 run of older code do.* not record .*not checked", warning)


def test_a_time_budget_that_ended_at_max_iters(tmp_path):
    early = {"facts": {"budget": "time"}}
    runs = dict.fromkeys(("base1", "base2", "ra1", "ra2"), early)
    paths = write(study(tmp_path, **runs))
    (warning,) = paths.report.warnings
    assert warning.startswith("4 runs with the budget 'time' reached CONFIG_GPT2_MAX_I")
    head = paths.markdown.read_text()
    assert re.search(r"^\| Tokens +\| .*budget time, ended by tokens +\|", head, re.M)


def test_cells_that_shared_a_gpu(tmp_path):
    """Their speeds stand in the tables, so the report says what they are worth."""
    both = {
        "values": {RATE: "3e-4", "RUNS_PER_GPU": 3},
        "operational": ("RUNS_PER_GPU",),
    }
    alone = {
        "values": {RATE: "3e-4", "RUNS_PER_GPU": 1},
        "operational": ("RUNS_PER_GPU",),
    }
    runs = {"base1": alone, "base2": both, "ra1": alone, "ra2": both}
    (warning,) = gather(study(tmp_path, **runs)).warnings
    assert warning.startswith("2 runs shared a GPU with up to 2 other cells")
    assert "speeds and step times are no evidence, and energy counts" in warning
    both_runs = study(tmp_path / "judged", **runs)
    for metric, told in ((named("tokens_per_s"), True), (VAL_LOSS, False)):
        verdict = gather(
            both_runs, Selection(terms=Terms(metric, smallest=None))
        ).evidence.verdicts[0]
        assert any("shared a GPU" in why for why in verdict.reasons) == told


def test_a_speed_that_was_not_measured_is_a_dash(tmp_path):
    slow = {"summary": {"tokens_per_s": None}}
    text = write(study(tmp_path, ra1=slow)).markdown.read_text()
    table = text.split("## Time and memory")[1]
    assert re.search(r"^\| `01-ra` +\| +– \|", table, re.M)


def test_wall_time_says_what_it_leaves_out(tmp_path):
    assert "a killed attempt records no end" in write(study(tmp_path)).html.read_text()


HASH = Cell("01-ra", 2, (), values={RATE: "3e-4"}).hash


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("run.json", None, "run.json: is missing: move"),
        ("run.json", {"schema": 1}, "run.json: cell is absent.* move"),
        ("summary.json", {"schema": 1}, "summary.json: hash is absent.* move"),
        ("summary.json", {"schema": 2}, "summary.json: has schema 2.* move"),
        (
            "summary.json",
            {"schema": 1, "hash": HASH, "step": 100},
            "summary.json: final_eval is absent: move",
        ),
        ("metrics.jsonl", None, "metrics.jsonl: holds no evaluation .*: move"),
        ("metrics.jsonl", "bad", "metrics.jsonl: line 1 is malformed.* move"),
        (
            "attempts.jsonl",
            {"event": "start", "attempt": 1},
            "line 1: time is absent.* move",
        ),
    ],
)
def test_a_damaged_run_does_not_hide_the_others(tmp_path, name, content, why):
    place = study(tmp_path)
    path = Cell("01-ra", 2, ()).path(tmp_path) / name
    if content is None:
        path.unlink()
    elif name.endswith(".jsonl"):
        line = content if isinstance(content, str) else "{}"
        path.write_text(f"{line}\n{line}\n" if content == "bad" else ROW)
    else:
        atomic.write_json(path, content)
    report = gather(place)
    assert sorted(report.study.counted) == [
        ("00-base", 1),
        ("00-base", 2),
        ("01-ra", 1),
    ]
    (cell,) = report.study.open
    assert cell.state == "damaged" and re.search(why, cell.why), cell.why
    assert report.rows[1].differences == {1: 0.0}


ROW = '{"event": "start", "attempt": 1}\n'


def test_a_study_of_damaged_runs_says_so(tmp_path):
    Cell("00-base", 1, (5.5, 3.5)).finish(tmp_path)
    (Cell("00-base", 1, ()).path(tmp_path) / "metrics.jsonl").unlink()
    with pytest.raises(ReportError, match="damaged: .*metrics.jsonl.*move"):
        gather(tmp_path / "demo")
