"""Learning curves, and how far apart they are from the control's."""

from statistics import fmean
from typing import Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from matrix import units
from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import PALETTE, STYLE, WIDE, Page, colour, dashes
from matrix.results.rows import Row

SKIPPED = 0.1  # the curves' axis fits what comes after this part of the tokens
SETTLED = 0.25  # likewise for the differences
FEWEST = 3
Points = dict[float, float]


def picture(rows: Sequence[Row]) -> Picture:
    """The curves of every step and their differences, in words and as a plot."""
    caption = (
        "Above: validation loss against tokens, mean over the seeds, thin lines at "
        "their minimum and maximum; the axis is fitted to what follows the first "
        f"{SKIPPED:.0%} of the tokens. Below: the difference to the control, "
        f"seed by seed, fitted to what follows the first {SETTLED:.0%}. Where fewer than "
        f"{FEWEST} evaluations follow, the axes hold all."
    )
    if not banded(rows):
        caption += " With this many steps only the means are drawn there."
    return common.picture(
        lambda page: figure(rows, page),
        "learning-curves",
        "Validation loss of every step over training, and its difference to the control",
        caption,
    )


def figure(rows: Sequence[Row], page: Page = WIDE) -> Figure:
    """Validation loss against tokens, and its paired difference to the control.

    Per arm: the mean over its seeds (thick), minimum and maximum (thin), at the
    evaluations that all its seeds have.
    """
    with matplotlib.rc_context(STYLE):
        height = 5.6 + page.legend_height(len(rows))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        tops, bottoms = [], []
        for number, row in enumerate(rows):
            curves = {k: dict(run.curve("tokens")) for k, run in row.runs.items()}
            tops += _arm(top, curves, number, page.name(row.step))
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
        bottom.set_title("Arm minus control, same seeds, nats/token")
        bottom.set_xlabel("Tokens trained on")
        form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
        bottom.xaxis.set_major_formatter(form)
        if tops:
            drawn.legend(loc="outside lower center", ncols=min(page.legend, len(rows)))
        return drawn


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
    """Limit the y axis to the points after the first part of the tokens; to all where
    fewer than FEWEST evaluations follow.
    """
    last = max((tokens for tokens, _ in points), default=0)
    late = [(tokens, value) for tokens, value in points if tokens >= skipped * last]
    few = len({tokens for tokens, _ in late}) < FEWEST
    shown = [value for _, value in (points if few else late)]
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
