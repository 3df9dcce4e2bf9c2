"""What each step takes of the machine, and how its weights were thinned out."""

from typing import Collection, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from matrix import units
from matrix.report.document import Picture, Section, Text
from matrix.report.plots.common import (
    STYLE,
    WIDTH,
    byte_ticks,
    colour,
    dashes,
    dots,
    picture,
)
from matrix.results.rows import Row, mean

SPEED, MEMORY = "tokens_per_s", "peak_memory_bytes"


def speed_picture(rows: Sequence[Row]) -> Picture | None:
    """Tokens per second and peak memory of every run; None where neither is known."""
    speeds, memories = (_values(rows, name) for name in (SPEED, MEMORY))
    if not any(speeds) and not any(memories):
        return None
    caption = (
        "Left: training speed; right: peak memory. One dot per run, a bar at the mean "
        "of each step. Both axes start at 0."
    )
    alt = "Training speed and peak memory of every run by step"
    return picture(speed_figure(rows), "speed-memory", alt, caption)


def _values(rows: Sequence[Row], name: str) -> list[list[float]]:
    """What the runs of every row record, the others left out."""
    return [[v for v in row.values(name) if v is not None] for row in rows]


def speed_figure(rows: Sequence[Row]) -> Figure:
    """Two panels that share the names of the steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name in ((left, SPEED), (right, MEMORY)):
            for y, values in enumerate(_values(rows, name)):
                dots(axes, values, mean(values), y)
            axes.set_xlim(left=0)
            axes.tick_params(axis="y", length=0)
        left.set_yticks(range(len(rows)), [row.step for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_title("Tokens/s")
        right.set_title("Peak memory")
        left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: units.count(x)))
        left.locator_params(axis="x", nbins=4)
        byte_ticks(right)
        return figure


def pruned(rows: Sequence[Row]) -> list[int]:
    """The places of the rows whose runs recorded a sparsity."""
    return [
        number
        for number, row in enumerate(rows)
        if any(run.sparsity for run in row.runs.values())
    ]


def sparsity_section(rows: Sequence[Row]) -> list[Section]:
    """Sparsity over training; none where nothing was pruned."""
    which = pruned(rows)
    if not which:
        return []
    text = (
        "Zeros among the blocks' matrices after each logged update, mean over the "
        "seeds. Arms without pruning are not drawn. The numbers at the end stand in "
        "the tables of arms and in runs.csv."
    )
    caption = (
        "Sparsity over training, a line per step: it stays where it is until the next "
        "change of the masks. Thin lines: the lowest and the highest seed."
    )
    drawn = sparsity_figure(rows, which)
    alt = "Sparsity of every pruned step over training"
    block = picture(drawn, "sparsity", alt, caption)
    return [Section("Sparsity", (Text(text), block))]


def sparsity_figure(rows: Sequence[Row], which: Collection[int]) -> Figure:
    """Share pruned against optimizer steps."""
    with matplotlib.rc_context(STYLE):
        legend_rows = -(-len(which) // 3)
        figure = Figure(figsize=(WIDTH, 3.0 + 0.19 * legend_rows), layout="constrained")
        axes = figure.subplots()
        for number in which:
            _stairs(axes, rows[number], number)
        axes.set_title("Sparsity of the blocks' matrices")
        axes.set_xlabel("Optimizer steps")
        axes.set_ylim(bottom=0)
        percent = FuncFormatter(lambda share, _: f"{100 * share:.0f} %")
        axes.yaxis.set_major_formatter(percent)
        form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
        axes.xaxis.set_major_formatter(form)
        figure.legend(loc="outside lower center", ncols=min(3, len(which)))
        return figure


def _stairs(axes: Axes, row: Row, number: int) -> None:
    """A row's mean share, and its extremes where the seeds differ."""
    curves = [run.sparsity for run in row.runs.values() if run.sparsity]
    steps = sorted({step for curve in curves for step, _ in curve})
    start = max(curve[0][0] for curve in curves)
    steps = [step for step in steps if step >= start]
    at = [[share_at(curve, step) for curve in curves] for step in steps]
    style = dict(color=colour(number), linestyle=dashes(number), drawstyle="steps-post")
    if any(len(set(shares)) > 1 for shares in at):
        for extreme in (min, max):
            edge = list(map(extreme, at))
            axes.plot(steps, edge, linewidth=0.5, alpha=0.55, **style)
    axes.plot(steps, list(map(mean, at)), linewidth=1.5, label=row.step, **style)


def share_at(curve: Sequence[tuple[int, float]], step: int) -> float:
    """The share after an update: that of the last change before it or at it."""
    return [share for at, share in curve if at <= step][-1]
