"""What each step takes of the machine: speed and memory, run by run."""

from typing import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from matrix import units
from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import STYLE, WIDTH, byte_ticks, dots
from matrix.results.rows import Row, mean

SPEED, MEMORY = "tokens_per_s", "peak_memory_bytes"


def picture(rows: Sequence[Row]) -> Picture | None:
    """Tokens per second and peak memory of every run; None where neither is known."""
    speeds, memories = (_values(rows, name) for name in (SPEED, MEMORY))
    if not any(speeds) and not any(memories):
        return None
    caption = (
        "Left: training speed; right: peak memory. One dot per run, a bar at the mean "
        "of each step. Both axes start at 0."
    )
    alt = "Training speed and peak memory of every run by step"
    return common.picture(figure(rows), "speed-memory", alt, caption)


def _values(rows: Sequence[Row], name: str) -> list[list[float]]:
    """What the runs of every row record, the others left out."""
    return [[v for v in row.values(name) if v is not None] for row in rows]


def figure(rows: Sequence[Row]) -> Figure:
    """Two panels that share the names of the steps."""
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
        left, right = drawn.subplots(1, 2, sharey=True)
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
        return drawn
