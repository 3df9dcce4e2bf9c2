"""Differences to the control against size and against compute, an arm a line."""

from typing import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from matrix import units
from matrix.evidence.ladder import OCTAVE, Ladder, Point, Trend, trend
from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import SOFT, STYLE, WIDE, Page, colour, dashes, marker

PANELS = (
    ("size", "Parameters without embeddings", units.scaled),
    ("compute", "Training FLOPs", lambda value: f"{value:.2g}"),
)
STEPS = 24
"""Points of a line."""


def picture(found: Ladder, name: str) -> Picture | None:
    """The plot with its caption; None where no arm has a place on it."""
    if not any(p.size and p.differences for ps in found.arms.values() for p in ps):
        return None
    caption = (
        "Difference to the control (arm minus control), mean over the seeds, with its "
        f"{100 * found.level:.4g} % t-interval; hollow: no comparison, see the table. "
        "Dashed: a line in the logarithm through at least three sizes, dotted up to "
        "twice the largest one. Description, no verdict."
    )
    alt = "Difference of every arm to the control against parameters and compute"
    return common.picture(lambda page: figure(found, page), name, alt, caption)


def figure(found: Ladder, page: Page = WIDE) -> Figure:
    """Two panels: against parameters, and against training compute."""
    with matplotlib.rc_context(STYLE):
        across = min(2, page.panels)
        height = 3.4 * (2 // across) + page.legend_height(len(found.arms))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        panels = drawn.subplots(2 // across, across, sharey=True)
        for axes, (against, title, show) in zip(panels, PANELS):
            _panel(axes, found, against)
            axes.set_xscale("log", base=2)
            axes.set_xlabel(title)
            at = [x for x in found.controls(against) if x]
            axes.set_xticks(at, [show(x) for x in at])
            axes.xaxis.set_minor_formatter(NullFormatter())
        panels[0].set_title("Validation loss, arm minus control, nats/token")
        panels[0].ticklabel_format(axis="y", useOffset=False)
        handles, labels = panels[0].get_legend_handles_labels()
        names, columns = map(page.name, labels), min(page.legend, len(labels) or 1)
        drawn.legend(handles, [*names], loc="outside lower center", ncols=columns)
        return drawn


def _panel(axes: Axes, found: Ladder, against: str) -> None:
    axes.axhline(0.0, color=SOFT, linewidth=0.9, zorder=1)
    for number, (step, points) in enumerate(found.arms.items(), start=1):
        placed = [(point.at(against), point) for point in points]
        placed = [(x, p) for x, p in placed if x and p.mean is not None]
        _points(axes, number, step, placed)
        line = trend(points, against, found.level)
        if line is not None:
            _line(axes, number, line)


def _points(
    axes: Axes, number: int, step: str, placed: Sequence[tuple[float, Point]]
) -> None:
    tone, label = colour(number), step
    for x, point in placed:
        if point.interval is not None:
            axes.plot([x, x], point.interval, color=tone, linewidth=1.2, zorder=2)
        axes.plot(
            [x],
            [point.mean],
            linestyle="none",
            marker=marker(number),
            markersize=6,
            markerfacecolor="white" if point.remark else tone,
            markeredgecolor=tone,
            label=label,
            zorder=3,
        )
        label = "_again"  # one entry in the legend


def _line(axes: Axes, number: int, line: Trend) -> None:
    """What was run, dashed; one octave beyond it, dotted."""
    for low, high, style in (
        (line.low, line.high, dashes(1)),
        (line.high, OCTAVE * line.high, dashes(2)),
    ):
        ratio = high / low
        xs = [low * ratio ** (step / STEPS) for step in range(STEPS)]
        axes.plot(
            [*xs, high],
            [line.at(x) for x in (*xs, high)],
            color=colour(number),
            linewidth=0.9,
            linestyle=style,
            zorder=1.5,
        )
