"""What all plots have in common: colours, marks, sizes, and how they are written.

Colours are Okabe and Ito's, safe for colour-blind readers; dash patterns and marks
say the same in black and white. Figures are drawn without pyplot,
so nothing is shared between reports and no display is needed.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Callable, Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from matrix import units
from matrix.report.document import Picture

PALETTE = (
    "#000000",
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#B5A800",  # Okabe-Ito's yellow, darkened to be seen on white
)
TICKS = 4  # about so many along an axis of bytes
DASHES = ((), (5.0, 1.6), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5), (9.0, 2.0))
MARKERS = "osD^vPXp*"
GREY, SOFT = "#c8ccd0", "#57606a"
DPI = 300
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "text.parse_math": False,  # a step's name may hold a dollar
}


@dataclass(frozen=True)
class Page:
    """What a figure is drawn for: its width in inches, the panels and the columns of
    a legend that stand side by side, and the longest name of a step in characters.
    """

    width: float
    panels: int
    legend: int
    longest: int

    def name(self, step: str) -> str:
        """The step's name, without its middle where it is longer than `longest`."""
        return units.shortened(step, self.longest)

    def legend_height(self, entries: int) -> float:
        """Inches that a legend of so many entries takes."""
        return 0.19 * -(-entries // self.legend)


WIDE = Page(6.6, 3, 3, 44)
NARROW = Page(3.8, 1, 1, 24)
"""A phone of 390 pixels, on which 9 points are as large as its text."""


def colour(number: int) -> str:
    """The colour of arm `number`, counted from 0, the control."""
    return PALETTE[number % len(PALETTE)]


def dashes(number: int) -> tuple[int, tuple[float, ...]]:
    """The line of arm `number`: five patterns, so that arms differ without colours
    too and colour and line together only after forty.
    """
    return (0, DASHES[number % len(DASHES)])


def marker(number: int) -> str:
    """The mark of arm `number`: nine shapes, so that it differs where a colour
    comes back.
    """
    return MARKERS[number % len(MARKERS)]


def from_zero(axes: Axes, values: Iterable[float], ticks: int = TICKS) -> None:
    """An x axis from 0 to the first tick beyond the largest value."""
    most = max(values, default=0.0)
    places = MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, most or 1.0)
    axes.set_xticks([place for place in places if place >= 0])
    axes.set_xlim(0.0, places[-1] * 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: units.count(x)))


def bytes_from_zero(axes: Axes, values: Iterable[float]) -> None:
    """The same in bytes, its ticks at multiples of a power of two."""
    most = max(values, default=0.0) or 1.0
    apart = 2.0 ** math.ceil(math.log2(most / TICKS))
    last = apart * math.ceil(most / apart)
    axes.set_xlim(0.0, last * 1.02)
    byte_ticks(axes, apart)


def byte_ticks(axes: Axes, apart: float | None = None) -> None:
    """Ticks of an x axis in bytes, at multiples of a power of two."""
    low, high = axes.get_xlim()
    apart = apart or 2.0 ** math.ceil(math.log2((high - low) / TICKS))
    axes.xaxis.set_major_locator(MultipleLocator(apart))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _bytes(x)))


def _bytes(value: float) -> str:
    """A tick: 0, 512 MiB, 1.5 GiB."""
    if not value:
        return "0"
    return units.memory(value).replace(".00 ", " ").replace(".0 ", " ")


def dots(axes: Axes, values: Iterable[float], middle: float | None, y: int) -> None:
    """One arm's runs as dots at height y and their mean as a bar; nothing without."""
    values = list(values)
    if middle is None:
        return
    axes.plot([middle, middle], [y - 0.3, y + 0.3], color=colour(y), linewidth=2.0)
    axes.scatter(
        values,
        [y] * len(values),
        s=20,
        color=colour(y),
        alpha=0.75,
        edgecolor="white",
        linewidth=0.6,
        zorder=3,
    )


def beside(
    page: Page, rows: int, widths: tuple[int, ...]
) -> tuple[Figure, tuple[Axes, ...]]:
    """A figure, and its panels that share the names of `rows` steps: side by side, on
    a narrow page below each other.
    """
    height, count = 1.2 + 0.3 * rows, len(widths)
    if page.panels > 1:
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        look = dict(width_ratios=widths)
        panels = drawn.subplots(1, count, sharey=True, squeeze=False, **look)
    else:
        drawn = Figure(figsize=(page.width, count * height), layout="constrained")
        panels = drawn.subplots(count, 1, sharey=True, squeeze=False)
    return drawn, tuple(panels.flat)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG at 300 dpi."""
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def svg_text(figure: Figure, name: str) -> str:
    """The figure as an <svg> element without metadata, the same every time.

    `name` begins every id in it, so that several figures fit on one page.
    """
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "kablate"}):
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = re.sub(r"[^\S\n]+$", "", text[text.index("<svg") :], flags=re.M).strip()
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)


def picture(
    draw: Callable[[Page], Figure], name: str, alt: str, caption: str
) -> Picture:
    """A figure as a block of the report: NAME.png, and its ids begin with NAME."""
    figure = draw(WIDE)
    png, svg = png_bytes(figure), svg_text(figure, name)
    narrow = svg_text(draw(NARROW), f"{name}-narrow")
    return Picture(f"{name}.png", alt, caption, png, svg, narrow)
