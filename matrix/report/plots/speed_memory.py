"""What each step takes of the machine: speed and memory, run by run."""

from typing import Sequence

import matplotlib
from matplotlib.figure import Figure

from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import STYLE, WIDE, Page, dots
from matrix.results.rows import Row, mean

SPEED, MEMORY = "tokens_per_s", "peak_memory_bytes"
PANELS = (
    (SPEED, "Tokens/s", common.from_zero),
    (MEMORY, "Peak memory", common.bytes_from_zero),
)
"""What a run records, the title of its panel, and what sets the axis."""


def picture(rows: Sequence[Row]) -> Picture | None:
    """Tokens per second and peak memory of every run; None where neither is known."""
    speeds, memories = (_values(rows, name) for name in (SPEED, MEMORY))
    if not any(speeds) and not any(memories):
        return None
    if any(speeds) and any(memories):
        what = "Training speed and peak memory"
    else:
        what = "Training speed" if any(speeds) else "Peak memory"
    caption = (
        f"{what}: one dot per run, a bar at the mean of each step. Axes start at 0."
    )
    alt = f"{what} of every run by step"
    return common.picture(lambda page: figure(rows, page), "speed-memory", alt, caption)


def _values(rows: Sequence[Row], name: str) -> list[list[float]]:
    """What the runs of every row record, the others left out."""
    return [[v for v in row.values(name) if v is not None] for row in rows]


def figure(rows: Sequence[Row], page: Page = WIDE) -> Figure:
    """A panel for each of the two that is known; they share the names of the steps."""
    with matplotlib.rc_context(STYLE):
        known = [part for part in PANELS if any(_values(rows, part[0]))]
        drawn, panels = common.beside(page, len(rows), (1,) * len(known))
        for axes, (name, title, scale) in zip(panels, known):
            values = _values(rows, name)
            for y, each in enumerate(values):
                dots(axes, each, mean(each), y)
            axes.tick_params(axis="y", length=0)
            axes.set_title(title)
            scale(axes, [value for each in values for value in each])
        panels[0].set_yticks(range(len(rows)), [page.name(row.step) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        return drawn
