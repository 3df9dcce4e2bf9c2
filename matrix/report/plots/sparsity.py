"""How the weights of pruned steps were thinned out over training."""

from typing import Collection, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Section, Text
from matrix.report.plots.common import STYLE, WIDE, Page, colour, dashes, picture
from matrix.results.rows import Row, mean


def pruned(rows: Sequence[Row]) -> list[int]:
    """The places of the rows whose runs recorded a sparsity."""
    return [
        number
        for number, row in enumerate(rows)
        if any(run.sparsity for run in row.runs.values())
    ]


def section(report: Report) -> Section | None:
    """Sparsity over training; None where nothing was pruned."""
    rows, which = report.rows, pruned(report.rows)
    if not which:
        return None
    text = (
        "Zeros among the blocks' matrices after each logged update, mean over the "
        "seeds. Arms without pruning are not drawn. The numbers at the end stand in "
        "the tables of arms and in runs.csv."
    )
    caption = (
        "Sparsity over training, a line per step: it stays where it is until the next "
        "change of the masks. Thin lines: the lowest and the highest seed."
    )
    alt = "Sparsity of every pruned step over training"
    block = picture(lambda page: figure(rows, which, page), "sparsity", alt, caption)
    return Section("Sparsity", (Text(text), block))


def figure(rows: Sequence[Row], which: Collection[int], page: Page = WIDE) -> Figure:
    """Share pruned against optimizer steps."""
    with matplotlib.rc_context(STYLE):
        height = 3.0 + page.legend_height(len(which))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        axes = drawn.subplots()
        for number in which:
            _stairs(axes, rows[number], number, page)
        axes.set_title("Sparsity of the blocks' matrices")
        axes.set_xlabel("Optimizer steps")
        axes.set_ylim(bottom=0)
        percent = FuncFormatter(lambda share, _: f"{100 * share:.0f} %")
        axes.yaxis.set_major_formatter(percent)
        form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
        axes.xaxis.set_major_formatter(form)
        drawn.legend(loc="outside lower center", ncols=min(page.legend, len(which)))
        return drawn


def _stairs(axes: Axes, row: Row, number: int, page: Page) -> None:
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
    axes.plot(
        steps, list(map(mean, at)), linewidth=1.5, label=page.name(row.step), **style
    )


def share_at(curve: Sequence[tuple[int, float]], step: int) -> float:
    """The share after an update: that of the last change before it or at it."""
    return [share for at, share in curve if at <= step][-1]
