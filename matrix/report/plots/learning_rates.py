"""Learning-rate sensitivity: final loss against the rate, a line per kind of arm.

A comparison at one rate can mis-rank: each optimizer has a best rate of its own.
"""

from dataclasses import dataclass
from typing import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Section, Table
from matrix.report.plots import common
from matrix.report.plots.common import STYLE, WIDE, Page, colour, dashes
from matrix.results.rows import Row

RATE = "learning_rate"
MOST_TICKS = 9  # rates that are each written below the axis


@dataclass(frozen=True)
class Series:
    """Arms that differ in their rate alone.

    points: (rate, as written, mean loss, losses over the seeds) by rate; arms
    without a finished run are left out. refs: the rows of the points.
    """

    name: str
    points: tuple[tuple[float, str, float, tuple[float, ...]], ...]
    refs: tuple[str, ...] = ()


def section(report: Report) -> Section | None:
    """The plot and the best rate of every line; None where no arms differ so."""
    lines = series(report.rows)
    if not lines:
        return None
    caption = (
        "Final validation loss against the peak learning rate: lines join the means, dots are "
        "runs. A comparison at one rate can rank arms in another order than one at "
        "each arm's best rate. Rates without a finished run are not drawn."
    )
    picture = common.picture(
        lambda page: figure(lines, page),
        "learning-rates",
        "Final validation loss against learning rate, one line per optimizer and pruning",
        caption,
    )
    return Section("Learning rate", (picture, table(lines)))


def series(rows: Sequence[Row]) -> list[Series]:
    """The lines of the plot: none unless some arms differ in their rate alone."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        rest = tuple((k, v) for k, v in row.point.items() if k != RATE)
        if RATE in row.point and row.losses:
            groups.setdefault(rest, []).append(row)
    found = []
    for rest, members in groups.items():
        members.sort(key=lambda row: float(row.point[RATE]))
        points = tuple(
            (float(r.point[RATE]), r.point[RATE], r.mean, tuple(r.losses.values()))
            for r in members
        )
        if len(points) > 1:
            refs = tuple(row.ref for row in members)
            found.append(Series(_name(dict(rest)), points, refs))
    return found


def _name(rest: dict[str, str]) -> str:
    """adamw, magnitude 0.5, MLP_DIM=64."""
    words = [rest.pop("optimizer")]
    pruning, sparsity = rest.pop("pruning"), rest.pop("sparsity", None)
    if sparsity is not None:
        words.append(f"{pruning} {sparsity}")
    return ", ".join([*words, *(f"{name}={value}" for name, value in rest.items())])


def table(lines: Sequence[Series]) -> Table:
    """The best rate of every line, and whether the true one may lie outside."""
    columns = (
        Column("Arm", "text"),
        Column("Rates"),
        Column("Lowest validation loss"),
        Column("At rate"),
        Column("Worst minus lowest"),
        Column("", "text"),
        Column("Runs", "ref"),
    )
    made = []
    for line in lines:
        means = [mean for _, _, mean, _ in line.points]
        lowest = means.index(min(means))
        loss, rate = means[lowest], line.points[lowest][1]
        ends = (line.points[0][1], line.points[-1][1])
        remark = "at the end of the range: the best rate may lie outside"
        made.append(
            (
                line.name,
                str(len(line.points)),
                units.loss(loss),
                rate,
                units.signed(max(means) - loss),
                remark if rate in ends else "",
                line.refs[lowest],
            )
        )
    return Table(columns, tuple(made))


def figure(lines: Sequence[Series], page: Page = WIDE) -> Figure:
    """Mean loss per rate as a line, the seeds as points; the rate is logarithmic."""
    with matplotlib.rc_context(STYLE):
        height = 3.4 + page.legend_height(len(lines))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        axes = drawn.subplots()
        for number, line in enumerate(lines):
            rates = [rate for rate, *_ in line.points]
            means = [mean for _, _, mean, _ in line.points]
            look = dict(color=colour(number), linestyle=dashes(number))
            axes.plot(rates, means, linewidth=1.5, label=page.name(line.name), **look)
            for rate, _, _, losses in line.points:
                axes.scatter(
                    [rate] * len(losses),
                    losses,
                    s=16,
                    color=colour(number),
                    alpha=0.75,
                    edgecolor="white",
                    linewidth=0.5,
                    zorder=3,
                )
        written = dict(sorted(p[:2] for line in lines for p in line.points))
        axes.set_xscale("log")
        if len(written) <= MOST_TICKS * page.width / WIDE.width:
            axes.set_xticks(list(written), list(written.values()))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title("Final validation loss, nats/token")
        axes.set_xlabel("Learning rate (peak)")
        axes.ticklabel_format(axis="y", useOffset=False)
        drawn.legend(loc="outside lower center", ncols=min(page.legend, len(lines)))
        return drawn
