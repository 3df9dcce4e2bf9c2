"""A ladder's report: differences against size and compute, and what it refuses to say."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.evidence import ladder, stats
from matrix.evidence.gather import gather
from matrix.evidence.ladder import Point, trend
from matrix.plan.ladder import Rung
from matrix.report.ladder import document_of
from matrix.report.markdown import markdown
from matrix.report.plots import ladder as plot
from tests.matrix.synthetic import Cell

SIZES = {"4": 5_000_000, "2": 20_000_000, "1": 80_000_000}
SEEDS = range(1, 7)
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002, 0.0005)
BASE, SLOPE = -0.05, 0.004
"""The arm's difference at 5M, and what every doubling adds."""


def true(size: float) -> float:
    return BASE + SLOPE * math.log2(size / SIZES["4"])


def written(output: Path, **more) -> list[Rung]:
    """A study at each size: a control and an arm whose difference shrinks with size."""
    rungs = []
    for name, size in SIZES.items():
        study = "demo" if name == "1" else f"demo.ladder-{name}"
        facts = {"parameters_no_embedding": size, "flops_per_token": 6 * size}
        values = {"GPT2_WIDTH": 768, "WIDTH_DIVISOR": int(name), "GPT2_HEADS": 12}
        values |= {"LEARNING_RATE": "6e-4"}
        for seed, noise in zip(SEEDS, NOISE):
            loss = 4.0 + 0.01 * seed
            control = (9.0, loss)
            arm = (9.0, loss + true(size) + noise)
            Cell(
                "00-a", seed, control, facts=facts, values=values, control=True
            ).finish(output, study)
            own = {"MLP_DIM": 9} | values
            cell = Cell(
                "01-b", seed, arm, facts=facts, values=own, changes=("MLP_DIM",)
            )
            if seed == 6 and more.get("lost") == name:
                cell.fail(output, "it stopped", study)
            else:
                cell.finish(output, study)
        rungs.append(Rung(name, output / study, Path("/nowhere")))
    return rungs


def assembled(output: Path, **more) -> ladder.Ladder:
    rungs = written(output, **more)
    reports = {rung.name: gather(rung.study_dir) for rung in rungs}
    return ladder.ladder("demo", rungs, reports, {}, 0.95)


def test_the_points_by_hand(tmp_path):
    found = assembled(tmp_path)
    points = found.arms["01-b"]
    assert [point.rung for point in points] == ["4", "2", "1"]
    for point in points:
        size = SIZES[point.rung]
        assert point.size == size and point.remark == ""
        assert point.compute == 6 * size * 100 * 4096
        d = [true(size) + noise for noise in NOISE]
        assert point.mean == pytest.approx(sum(d) / 6)
        assert point.interval == pytest.approx(stats.interval(d, 0.95))


def test_the_trend_by_hand(tmp_path):
    found = assembled(tmp_path)
    line = trend(found.arms["01-b"], "size", 0.95)
    assert line.slope == pytest.approx(SLOPE)
    assert line.at(SIZES["2"]) == pytest.approx(true(SIZES["2"]) + sum(NOISE) / 6)
    assert set(line.slopes) == set(SEEDS)
    assert trend(found.arms["01-b"], "compute", 0.95).slope == pytest.approx(SLOPE)


def test_the_interval_of_a_slope_is_over_the_seeds():
    """Seeds whose own slopes are 1, 2 and 6 per doubling."""
    points = [
        Point(str(x), 2.0**x, None, {1: 1.0 * x, 2: 2.0 * x, 3: 6.0 * x}, None, "")
        for x in (3, 4, 5)
    ]
    line = trend(points, "size", 0.95)
    assert dict(line.slopes) == pytest.approx({1: 1.0, 2: 2.0, 3: 6.0})
    assert line.slope == pytest.approx(3.0)
    assert line.interval == pytest.approx(stats.interval([1.0, 2.0, 6.0], 0.95))
    assert trend(points, "compute", 0.95) is None


def test_no_value_beyond_an_octave(tmp_path):
    line = trend(assembled(tmp_path).arms["01-b"], "size", 0.95)
    top = SIZES["1"]
    line.at(2 * top)
    for x in (2.01 * top, 0.99 * SIZES["4"]):
        with pytest.raises(ValueError, match="is outside of"):
            line.at(x)


def test_the_line_is_drawn_to_an_octave_and_no_further(tmp_path):
    found = assembled(tmp_path)
    panel = plot.figure(found).axes[0]
    drawn = [x for line in panel.lines for x in line.get_xdata() if x > 1]
    assert max(drawn) == 2 * SIZES["1"]


def test_a_size_that_cannot_be_compared_is_in_no_trend(tmp_path):
    found = assembled(tmp_path, lost="2")
    point = found.arms["01-b"][1]
    assert point.remark.startswith("INVALID: ") and "it stopped" in point.remark
    assert point.interval is None
    assert trend(found.arms["01-b"], "size", 0.95) is None
    assert "INVALID: " in markdown(document_of(found, None))


def test_two_sizes_are_no_trend(tmp_path):
    found = assembled(tmp_path)
    points = found.arms["01-b"]
    assert trend(points[:2], "size", 0.95) is None
    same = [replace(point, size=5e6) for point in points]
    assert trend(same, "size", 0.95) is None


def test_what_the_report_says(tmp_path):
    found = assembled(tmp_path)
    text = markdown(document_of(found, plot.picture(found, "demo.ladder")))
    assert "A description, no verdict" in text
    assert "| `4` " in text and "demo.ladder-4/report.md" in text
    assert "demo.ladder.png" in text and "SUPPORTED" not in text
    assert "the learning rate is 6e-4 at every size: it was tuned for none" in text
    assert "tokens differ" not in text
    row = next(line for line in text.splitlines() if "`4`" in line and "`01-b`" in line)
    assert "5.00M" in row and "-0.04992" in row
    slope = next(line for line in text.splitlines() if "+0.00400" in line)
    assert "`01-b`" in slope


def test_a_size_without_a_run_is_named(tmp_path):
    rungs = written(tmp_path)
    reports = {rung.name: gather(rung.study_dir) for rung in rungs if rung.name != "2"}
    missing = {"2": "no finished run"}
    found = ladder.ladder("demo", rungs, reports, missing, 0.95)
    text = markdown(document_of(found, None))
    assert "size 2: no finished run" in text and "none: no finished run" in text


def test_other_tokens_are_told(tmp_path):
    """An overlay may change the budget: then size is not all that differs."""
    rungs = written(tmp_path)
    reports = {rung.name: gather(rung.study_dir) for rung in rungs}
    control = reports["4"].rows[0]
    for run in control.runs.values():
        run.documents["summary"]["tokens"] = 77
    found = ladder.ladder("demo", rungs, reports, {}, 0.95)
    assert "tokens differ: 4: 77, 2: 409600, 1: 409600" in markdown(
        document_of(found, None)
    )
