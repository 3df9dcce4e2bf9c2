"""Evaluations in the report and in verdicts: one protocol, or none of it."""

import math
from statistics import fmean, stdev

import pytest

from matrix.evidence.weigh import weigh
from matrix.report.plots import common
from matrix.report.write import write
from matrix.results.metrics import named
from matrix.results.rows import make_rows
from matrix.results.selection import Terms
from matrix.results.study import load
from records import evaluations
from records.layout import CellDir
from tests.matrix.synthetic import Cell

ACC = {("00-base", 1): 0.50, ("00-base", 2): 0.52, ("00-base", 3): 0.53}
ACC |= {("01-ra", 1): 0.54, ("01-ra", 2): 0.55, ("01-ra", 3): 0.585}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Numbers only; the plots are drawn in test_report_files.py."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def evaluate(cell, value, directory, name="quiz", **change):
    """Add a row of an evaluation to a run."""
    row = {
        "name": name,
        "kind": "task",
        "sha256": "ab" * 32,
        "settings": {"limit": None, "shots": 0},
        "metrics": {"acc": value},
        "better": {"acc": "higher"},
        "model_sha256": cell.hash[::-1],
        **change,
    }
    evaluations.append(CellDir(directory), row)


@pytest.fixture
def study(tmp_path):
    """Two steps of three seeds; place[step, seed] = (cell, its directory)."""
    place = {}
    for step, seed in ACC:
        cell = Cell(step, seed, (5.5, 3.3 + 0.001 * seed))
        place[step, seed] = (cell, cell.finish(tmp_path))
    return tmp_path / "demo", place


def fill(place, **special):
    """Evaluate all runs; special = {"01-ra/2": {…}} changes the row of one."""
    for (step, seed), value in ACC.items():
        cell, directory = place[step, seed]
        evaluate(cell, value, directory, **special.get(f"{step}/{seed}", {}))


def verdict(root, name="eval:quiz/acc"):
    study = load(root)
    terms = Terms(named(name), smallest=None)
    [found] = weigh(study, make_rows(study), terms).verdicts
    return found


def row_of(root, step, name="quiz"):
    text = write(root).markdown.read_text()
    block = text.split("\n## Evaluations\n")[1].split("\n## ")[0]
    lines = [x for x in block.splitlines() if f"`{name}`" in x and f"`{step}`" in x]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_means_over_seeds_and_paired_differences(study):
    root, place = study
    fill(place)
    base, ra = (
        [v for (s, _), v in ACC.items() if s == step] for step in ("00-base", "01-ra")
    )
    d = [b - a for a, b in zip(base, ra)]
    [line] = row_of(root, "01-ra")
    assert line[3:9] == [
        "3",
        f"{fmean(ra):.5g}",
        f"{stdev(ra):.5g}",
        f"{fmean(d):+.5g}",
        f"{stdev(d):.5g}",
        "3",
    ]
    [line] = row_of(root, "00-base")
    assert line[3:9] == ["3", "0.51667", "0.015275", "control", "–", "–"]


def test_a_report_without_evaluations_has_no_such_section(study):
    assert "## Evaluations" not in write(study[0]).markdown.read_text()


def test_a_verdict_on_an_evaluation(study):
    root, place = study
    fill(place)
    found = verdict(root)
    assert found.differences == pytest.approx({1: 0.04, 2: 0.03, 3: 0.055})
    assert found.label == "LIMITED better"
    assert verdict(root, "eval:quiz/acc:higher").label == "LIMITED better"


def test_of_two_rows_the_last_counts(study):
    root, place = study
    fill(place)
    cell, directory = place["01-ra", 1]
    evaluate(cell, 0.44, directory)
    assert verdict(root).differences[1] == pytest.approx(-0.06)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"settings": {"limit": 10, "shots": 0}}, "limit: 10 in 01-ra (seed 2)"),
        ({"sha256": "cd" * 32}, "sha256 of what was asked: cdcdcdcdcdcd in 01-ra"),
    ],
)
def test_other_settings_are_named_and_never_mixed(study, change, why):
    root, place = study
    fill(place, **{"01-ra/2": change})
    found = verdict(root)
    assert found.outcome == "NON_DIAGNOSTIC"
    assert any(why in reason for reason in found.reasons)
    [line] = row_of(root, "01-ra")
    assert line[3:6] == ["3", "–", "–"] and line[8] == "2"
    assert line[6] == f"{fmean([0.04, 0.055]):+.5g}"
    assert f"evaluations of quiz differ in {why}" in write(root).markdown.read_text()


def test_other_settings_of_a_step_leave_no_difference(study):
    root, place = study
    other = {"settings": {"limit": 5, "shots": 0}}
    fill(place, **{f"01-ra/{seed}": other for seed in (1, 2, 3)})
    [line] = row_of(root, "01-ra")
    assert line[4] != "–" and line[6:9] == ["–", "–", "0"]
    assert verdict(root).outcome == "NON_DIAGNOSTIC"


def test_a_run_that_was_not_evaluated_makes_the_verdict_invalid(study):
    root, place = study
    fill(place)
    (place["01-ra", 3][1] / "evaluations.jsonl").unlink()
    found = verdict(root)
    assert found.outcome == "INVALID"
    assert "01-ra seed 3 records no eval:quiz/acc (make eval)" in found.reasons


def test_a_direction_that_the_task_denies_is_not_compared(study):
    root, place = study
    fill(place)
    found = verdict(root, "eval:quiz/acc:lower")
    assert found.outcome == "NON_DIAGNOSTIC"
    assert "taken for lower is better" in found.reasons[0]


def test_an_evaluation_of_other_weights_is_refused(study):
    root, place = study
    fill(place, **{"01-ra/2": {"model_sha256": "00" * 32}})
    [open_] = load(root).open
    assert open_.state == "damaged" and "evaluates other weights on quiz" in open_.why


def test_other_metrics_do_not_see_evaluations(study):
    root, place = study
    before = verdict(root, "val_loss")
    fill(place, **{"01-ra/2": {"settings": {"limit": 1}}})
    assert verdict(root, "val_loss") == before


@pytest.mark.parametrize(
    "name, key, task, lower",
    [
        ("eval:held.txt/loss", "loss", "held.txt", True),
        ("eval:my/task/acc_norm", "acc_norm", "my/task", False),
        ("eval:quiz/exact_match,strict", "exact_match,strict", "quiz", False),
        ("eval:a:b/cost:lower", "cost", "a:b", True),
        ("eval:quiz/gain:higher", "gain", "quiz", False),
    ],
)
def test_names_of_evaluations(name, key, task, lower):
    metric = named(name)
    assert (metric.name, metric.key, metric.evaluation) == (name, key, task)
    assert metric.lower_is_better is lower and not metric.evaluated


@pytest.mark.parametrize(
    "name, why",
    [
        ("loss", "none of val_loss"),
        ("eval:quiz", "eval:TASK/METRIC"),
        ("eval:/acc", "eval:TASK/METRIC"),
        ("eval:quiz/gain", "add :lower or :higher"),
        ("eval:quiz/gain:better", "eval:TASK/METRIC"),
    ],
)
def test_names_that_are_no_metric(name, why):
    with pytest.raises(ValueError, match=why):
        named(name)


def test_a_number_that_is_not_finite_makes_the_verdict_invalid(study):
    root, place = study
    fill(place, **{"01-ra/2": {"metrics": {"acc": math.inf}}})
    assert verdict(root).outcome == "INVALID"
