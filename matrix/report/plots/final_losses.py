"""Final losses, run by run, and their paired differences."""

from typing import Sequence

import matplotlib
from matplotlib.figure import Figure

from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import GREY, STYLE, WIDE, Page, colour, dots
from matrix.results.rows import Row


def picture(rows: Sequence[Row]) -> Picture:
    """Every run's final loss, in words and as a plot."""
    caption = (
        "One dot per run, a bar at the mean of each step. First the final validation "
        "loss, the runs of one seed joined by a line; then step minus control, same "
        "seed. Both in nats/token."
    )
    return common.picture(
        lambda page: figure(rows, page),
        "final-losses",
        "Final validation loss of every run by step, and its difference to the control",
        caption,
    )


def figure(rows: Sequence[Row], page: Page = WIDE) -> Figure:
    """Final loss of every run, pairs joined; and the paired differences."""
    with matplotlib.rc_context(STYLE):
        drawn, (left, right) = common.beside(page, len(rows), (3, 2))
        seeds = sorted({seed for row in rows for seed in row.losses})
        for seed in seeds:
            line = [(r.losses[seed], y) for y, r in enumerate(rows) if seed in r.losses]
            left.plot(*zip(*line), color=GREY, linewidth=0.7, zorder=1)
        for y, row in enumerate(rows):
            dots(left, row.losses.values(), row.mean, y)
            dots(right, row.differences.values(), row.difference, y)
        right.axvline(0.0, color=colour(0), linewidth=1.0)
        left.set_yticks(range(len(rows)), [page.name(row.step) for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_title("Final validation loss")
        right.set_title("Arm minus control")
        for axes in (left, right):
            axes.locator_params(axis="x", nbins=4)
            axes.ticklabel_format(axis="x", useOffset=False)
            axes.tick_params(axis="y", length=0)
        return drawn
