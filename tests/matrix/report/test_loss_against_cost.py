"""Losses against their costs: numbers by hand, and fronts against a definition."""

import itertools
import random

import pytest

from matrix.report.plots import common, loss_against_cost
from matrix.report.plots.loss_against_cost import COSTS, Point, front, points
from matrix.report.write import gather, write
from matrix.results.cache_size import cache_bytes, cached_values
from matrix.results.study import load
from tests.matrix.report.test_report import markdown_row
from tests.matrix.synthetic import Cell

CACHE, STEP_TIME, PARAMETERS, ENERGY = COSTS
AA = {"values": {"INIT_SALT": "aa"}, "changes": ("INIT_SALT",)}


def point(step: str, cost: float, loss: float, **more) -> Point:
    return Point(step, 0, (cost,), (loss,), **more)


def steps(found) -> list[str]:
    return [each.step for each in found]


def test_a_front_by_hand():
    found = [
        point("dear", 9, 3.0),
        point("cheap", 1, 3.5),
        point("between", 5, 3.2),
        point("beaten", 6, 3.3),
        point("as dear as the best and worse", 9, 3.1),
        point("as good as the cheapest and dearer", 2, 3.5),
    ]
    assert steps(front(found)) == ["cheap", "between", "dear"]


def test_equal_points_are_on_the_front_together():
    assert steps(front([point("a", 1, 3.0), point("b", 1, 3.0)])) == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_a_front_by_its_definition(seed):
    """Of a grid with many ties: on the front exactly when no other is below it."""
    rng = random.Random(seed)
    grid = {(rng.randrange(6), rng.randrange(6)) for _ in range(12)}
    found = [point(f"{c},{l}", c, l) for c, l in grid]
    below = {
        (c, l)
        for (c, l), (d, m) in itertools.permutations(grid, 2)
        if max(d - c, m - l) <= 0
    }
    assert {p.at for p in front(found)} == grid - below


def test_fronts_are_made_of_means():
    """One lucky seed puts no step on the front."""
    lucky = Point("lucky", 0, (5.0, 5.0), (1.0, 9.0))
    steady = Point("steady", 1, (5.0, 5.0), (4.0, 4.0))
    assert steps(front([lucky, steady])) == ["steady"]


def test_the_control_again_is_on_no_front():
    aa = point("aa", 1, 2.9, aa=True)
    assert steps(front([aa, point("base", 1, 3.0)])) == ["base"]


def test_the_cache_in_bytes(tmp_path):
    """12 layers × (1,024 tokens × 192 + 100) values × 4 bytes; half of it in bf16."""
    small = {"cache_per_token_layer": 192, "cache_constant_layer": 100}
    for step, dtype in (("00-base", "fp32"), ("01-half", "bf16")):
        Cell(step, 1, (5, 3), facts={**small, "dtype": dtype}).finish(tmp_path)
    full, half = points(gather(tmp_path / "demo").rows, CACHE)
    assert full.costs == (12 * (1024 * 192 + 100) * 4,) and full.at[0] == 2 * half.at[0]


def test_a_cost_that_a_run_lacks_is_no_point(tmp_path):
    for seed, seconds in ((1, 0.5), (2, None)):
        slow = {"average_step_time": seconds}
        Cell("00-base", seed, (5, 3), summary=slow).finish(tmp_path)
        Cell("01-ra", seed, (5, 3)).finish(tmp_path)
    rows = gather(tmp_path / "demo").rows
    assert steps(points(rows, STEP_TIME)) == ["01-ra"]
    assert points(rows, ENERGY) == []


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A control, its A/A, a smaller step, and one that is worse in everything."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
    salt = {"values": {"INIT_SALT": ""}}
    small = {"facts": {"parameters": 9_000_000}}
    bad = {"facts": {"parameters": 200_000_000}, "summary": {"average_step_time": 0.9}}
    for seed in (1, 2):
        Cell("00-base", seed, (5, 3.3 + 0.01 * seed), **salt).finish(tmp_path)
        Cell("01-aa", seed, (5, 3.2), **AA).finish(tmp_path)
        Cell("02-small", seed, (5, 3.4), **salt, **small).finish(tmp_path)
        Cell("03-bad", seed, (5, 3.5), **salt, **bad).finish(tmp_path)
    return tmp_path / "demo"


def test_the_section_of_a_report(study):
    paths = write(study)
    text = paths.markdown.read_text()
    title = "Validation loss against cost"
    base = markdown_row(text, title, "00-base")
    assert base[1:] == [
        "3.3150",
        "72.0 MiB",
        "500.0 ms",
        "124.48M",
        "cache of a full context, step time, parameters",
        "[R1](#r1)",
    ]
    assert markdown_row(text, title, "02-small")[5] == "parameters"
    assert markdown_row(text, title, "03-bad")[5] == ""
    assert markdown_row(text, title, "01-aa")[5] == ""
    names = [path.name for path in paths.pictures]
    assert "loss-energy.png" not in names and "Energy was not measured" in text
    for name in ("loss-cache.png", "loss-step-time.png", "loss-parameters.png"):
        assert name in names and f"({name})" in text


def test_what_is_drawn(study):
    rows = gather(study).rows
    found = points(rows, PARAMETERS, aa=("01-aa",))
    (axes,) = loss_against_cost.figure(PARAMETERS, found).axes
    marks = {
        line.get_label(): line for line in axes.lines if line.get_marker() != "None"
    }
    assert set(marks) == {row.step for row in rows}
    filled = {step for step, m in marks.items() if m.get_markerfacecolor() != "white"}
    assert filled == {"00-base", "02-small"}
    assert len({m.get_marker() for m in marks.values()}) == 4, "told apart in print"
    stairs = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert list(stairs.get_xdata()) == [9_000_000, 124_475_904]
    spreads = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2]
    assert any(y == pytest.approx([3.31, 3.32]) for y in spreads), "the control's seeds"
    assert axes.get_xscale() == "log"
    (axes,) = loss_against_cost.figure(STEP_TIME, points(rows, STEP_TIME)).axes
    assert axes.get_xscale() == "linear"


def test_one_step_has_no_front(tmp_path):
    Cell("00-base", 1, (5, 3)).finish(tmp_path)
    assert loss_against_cost.section(gather(tmp_path / "demo")) is None


def test_the_cache_of_layers_that_differ(tmp_path):
    """Sums over the layers, what is fp32 apart; a layer has none of its own."""
    facts = {
        "cache_per_token_layer": None,
        "cache_constant_layer": None,
        "cache_per_token": 512,
        "cache_constant": 9000,
        "cache_fp32": 8000,
        "dtype": "bf16",
    }
    Cell("01-hybrid", 1, (5.0, 3.0), facts=facts).finish(tmp_path)
    (run,) = load(tmp_path / "demo").runs
    assert cached_values(run) == (512, 9000) and cached_values(run, 1) is None
    context = run.value("context")
    assert cache_bytes(run) == 2 * (512 * context + 1000) + 4 * 8000
    assert cache_bytes(run, 65536) == 2 * (512 * 65536 + 1000) + 4 * 8000
