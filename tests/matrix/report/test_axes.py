"""Every mark of every plot lies wholly inside its axes, on a wide and a narrow page."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection

from matrix.report.plots import common, final_losses, forest, learning_rates
from matrix.report.plots import loss_against_cost, speed_memory
from matrix.report.plots.common import NARROW, WIDE
from matrix.report.write import gather
from tests.matrix.synthetic import Cell

NAME = "mla-latent-reciprocal-attention-with-gate-{}"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Runs whose speeds and memories differ by less than a thousandth."""
    output = tmp_path_factory.mktemp("axes")
    for number in range(4):
        point = {"optimizer": "adamw", "pruning": "none"}
        point["learning_rate"] = ("1e-4", "3e-4", "1e-3", "3e-3")[number]
        for seed in (1, 2, 3):
            summary = {"tokens_per_s": 98_000 + 9.0 * seed + number}
            summary |= {"average_step_time": 0.1 + 1e-5 * seed}
            summary["peak_memory_bytes"] = 4_294_900_000 + 10_000 * seed * number
            Cell(
                NAME.format(number),
                seed,
                (5.5, 3.9, 3.3 + 0.001 * number * seed),
                summary=summary,
                facts={"parameters": 124_000_000 + 1000 * number},
                arm={"point": point, "dense": None},
            ).finish(output)
    return gather(output / "demo")


def figures(report):
    """{name: figure of a page}."""
    rows = report.rows
    made = {
        "final losses": lambda page: final_losses.figure(rows, page),
        "speed and memory": lambda page: speed_memory.figure(rows, page),
        "differences": lambda page: forest.figure(report.evidence, page),
        "rates": lambda page: learning_rates.figure(learning_rates.series(rows), page),
    }
    for cost in loss_against_cost.COSTS[1:3]:
        found = loss_against_cost.points(rows, cost)
        made[cost.name] = lambda page, cost=cost, found=found: loss_against_cost.figure(
            cost, found, page
        )
    return made


def beyond(figure) -> list[str]:
    """The marks that reach over the edge of their axes, in pixels."""
    with matplotlib.rc_context(common.STYLE):
        figure.savefig(io.BytesIO(), format="png", dpi=100)
    lost = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        for marks in axes.collections:
            if not isinstance(marks, PathCollection):
                continue
            radius = np.sqrt(marks.get_sizes()[0]) / 2 * figure.dpi / 72
            at = marks.get_offset_transform().transform(marks.get_offsets())
            low = at - radius - (box.x0, box.y0)
            high = (box.x1, box.y1) - at - radius
            room = min(low.min(), high.min())
            if room < 0:
                lost.append(f"{axes.get_title(loc='left')}: {room:.1f} pixels")
    return lost


@pytest.mark.parametrize("page", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axes_reach_their_dots(report, page):
    made = figures(report)
    assert len(made) == 6
    assert {name: beyond(draw(page)) for name, draw in made.items()} == {
        name: [] for name in made
    }


def test_axes_from_zero_end_at_a_tick_beyond_the_largest_dot(report):
    speed, memory = speed_memory.figure(report.rows).axes
    for axes, values in (
        (speed, [98_000 + 9.0 * 3 + 3]),
        (memory, [4_294_900_000 + 90_000]),
    ):
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert low == ticks[0] == 0 and ticks[-1] >= max(values)


@pytest.mark.parametrize("page", [WIDE, NARROW], ids=["wide", "narrow"])
def test_long_names_leave_room_for_the_numbers(report, page):
    """At least 40 % of the width, whatever the steps are called."""
    figure = final_losses.figure(report.rows, page)
    with matplotlib.rc_context(common.STYLE):
        figure.savefig(io.BytesIO(), format="png", dpi=100)
    widths = [axes.get_position().width for axes in figure.axes]
    assert (sum(widths) if page is WIDE else min(widths)) > 0.4
