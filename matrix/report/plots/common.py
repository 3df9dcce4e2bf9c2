"""Learning curves, and final losses seed by seed; what all plots have in common.

Colours are Okabe and Ito's, safe for colour-blind readers; dash patterns and marks
say the same in black and white. Figures are drawn without pyplot,
so nothing is shared between reports and no display is needed.
"""

import io
import math
import re
from statistics import fmean
from typing import Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from matrix import units
from matrix.report.document import Picture
from matrix.results.rows import Row

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
WIDTH = 6.6  # inches
DPI = 300
SKIPPED = 0.1  # the curves' axis fits what comes after this part of the tokens
SETTLED = 0.25  # likewise for the differences
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
Points = dict[float, float]


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


def byte_ticks(axes: Axes) -> None:
    """Ticks of an x axis in bytes, at multiples of a power of two."""
    low, high = axes.get_xlim()
    apart = 2.0 ** math.ceil(math.log2((high - low) / TICKS))
    axes.xaxis.set_major_locator(MultipleLocator(apart))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _bytes(x)))


def _bytes(value: float) -> str:
    """A tick: 0, 512 MiB, 1.5 GiB."""
    if not value:
        return "0"
    return units.memory(value).replace(".00 ", " ").replace(".0 ", " ")


def learning_curves(rows: Sequence[Row]) -> Figure:
    """Validation loss against tokens, and its paired difference to the control.

    Per arm: the mean over its seeds (thick), minimum and maximum (thin), at the
    evaluations that all its seeds have.
    """
    with matplotlib.rc_context(STYLE):
        legend_rows = -(-len(rows) // 3)
        figure = Figure(figsize=(WIDTH, 5.6 + 0.19 * legend_rows), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        tops, bottoms = [], []
        for number, row in enumerate(rows):
            curves = {k: dict(run.curve("tokens")) for k, run in row.runs.items()}
            tops += _arm(top, curves, number, row.step)
            reference = {k: dict(r.curve("tokens")) for k, r in rows[0].runs.items()}
            paired = {
                seed: subtract(curves[seed], reference[seed])
                for seed in row.differences
            }
            bottoms += _arm(bottom, paired, number, None, banded(rows))
        bottom.axhline(0.0, color=colour(0), linewidth=1.6)
        _fit(top, tops, SKIPPED)
        _fit(bottom, bottoms, SETTLED)
        top.set_title("Validation loss, nats/token")
        bottom.set_title("Difference to the control, same seeds, nats/token")
        bottom.set_xlabel("Tokens trained on")
        form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
        bottom.xaxis.set_major_formatter(form)
        if tops:
            figure.legend(loc="outside lower center", ncols=min(3, len(rows)))
        return figure


def banded(rows: Sequence[Row]) -> bool:
    """Whether the differences show minimum and maximum: not with too many arms."""
    return len(rows) <= len(PALETTE)


def _arm(
    axes: Axes,
    curves: dict[int, Points],
    number: int,
    label: str | None,
    edges: bool = True,
) -> list[tuple[int, float]]:
    """Draw one arm's mean and edges; returns the points drawn."""
    low, middle, high = band(curves.values())
    if not middle:
        return []
    style = dict(color=colour(number), linestyle=dashes(number))
    if edges and len(curves) > 1:
        for edge in (low, high):
            thin = dict(color=colour(number), linewidth=0.5, alpha=0.55)
            axes.plot(edge.keys(), edge.values(), **thin)
        axes.fill_between(
            list(low),
            list(low.values()),
            list(high.values()),
            color=style["color"],
            alpha=0.06,
            linewidth=0,
        )
    axes.plot(middle.keys(), middle.values(), linewidth=1.5, label=label, **style)
    return [*low.items(), *high.items()] if edges else list(middle.items())


def _fit(axes: Axes, points: list[tuple[int, float]], skipped: float) -> None:
    """Limit the y axis to the points after the first part of the tokens."""
    last = max((tokens for tokens, _ in points), default=0)
    shown = [value for tokens, value in points if tokens >= skipped * last]
    if shown:
        pad = 0.06 * (max(shown) - min(shown)) or 0.001
        axes.set_ylim(min(shown) - pad, max(shown) + pad)
        axes.set_xlim(0, 1.01 * last or 1)


def subtract(arm: Points, control: Points) -> Points:
    """arm − control where both were evaluated."""
    return {
        tokens: arm[tokens] - control[tokens] for tokens in arm if tokens in control
    }


def band(curves: Iterable[Points]) -> tuple[Points, Points, Points]:
    """Minimum, mean and maximum at the tokens that all curves share."""
    curves = list(curves)
    shared = [t for t in curves[0] if all(t in c for c in curves)] if curves else []
    at = {tokens: [c[tokens] for c in curves] for tokens in sorted(shared)}
    return tuple({t: f(values) for t, values in at.items()} for f in (min, fmean, max))


def final_losses(rows: Sequence[Row]) -> Figure:
    """Final loss of every run, pairs joined; and the paired differences."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        seeds = sorted({seed for row in rows for seed in row.losses})
        for seed in seeds:
            line = [(r.losses[seed], y) for y, r in enumerate(rows) if seed in r.losses]
            left.plot(*zip(*line), color=GREY, linewidth=0.7, zorder=1)
        for y, row in enumerate(rows):
            dots(left, row.losses.values(), row.mean, y)
            dots(right, row.differences.values(), row.difference, y)
        right.axvline(0.0, color=colour(0), linewidth=1.0)
        left.set_yticks(range(len(rows)), [row.step for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_title("Loss, nats/token")
        right.set_title("Difference to the control")
        for axes in (left, right):
            axes.locator_params(axis="x", nbins=4)
            axes.ticklabel_format(axis="x", useOffset=False)
            axes.tick_params(axis="y", length=0)
        return figure


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


def picture(figure: Figure, name: str, alt: str, caption: str) -> Picture:
    """The figure as a block of the report: NAME.png, and its ids begin with NAME."""
    png, svg = png_bytes(figure), svg_text(figure, name)
    return Picture(f"{name}.png", alt, caption, png, svg)
