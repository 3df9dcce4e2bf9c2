"""The forest plot: every arm's difference with its interval."""

import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matrix.evidence.verdict import AA, LIMITED, SUPPORTED, Verdict
from matrix.evidence.weigh import Evidence
from matrix.report.document import Picture
from matrix.report.plots import common
from matrix.report.plots.common import GREY, PALETTE, SOFT, STYLE, WIDE, Page

BLUE, ORANGE = PALETTE[2], PALETTE[4]
MARKS = {SUPPORTED: "D", LIMITED: "s", AA: "v"}


def picture(evidence: Evidence) -> Picture | None:
    """The plot with its caption; None when no difference is finite."""
    if not any(map(_finite, evidence.verdicts)):
        return None
    caption = (
        "Each arm's mean difference to the control: thin line the interval at its Holm "
        "level, thick line the 90 % interval, small dots the seeds. Diamond SUPPORTED, "
        "square LIMITED, triangle A/A, circle no claim; filled and blue is better, "
        "filled and orange worse. Dotted: ± the smallest effect of interest."
    )
    drawn_aa = [v.step for v in evidence.verdicts if v.outcome == AA]
    if drawn_aa:
        level = f"{100 * (1 - evidence.terms.alpha):.4g} %"
        caption += (
            f" Band: another initialisation, the {level} interval of "
            f"{', '.join(drawn_aa)} (A/A). It is no yardstick for the arms, which share "
            "the control's initial values where names and shapes agree."
        )
    return common.picture(
        lambda page: figure(evidence, page),
        "differences",
        "Difference of every arm to the control with its interval",
        caption,
    )


def figure(evidence: Evidence, page: Page = WIDE) -> Figure:
    """One line per arm: its seeds, mean, Holm-level interval, 90 % interval (thick).

    Blue is a claim of better, orange of worse, grey none; shapes say the same
    without colour. A band in its own row shows an A/A arm's 1 − α interval, dotted
    lines ± the smallest effect of interest.
    """
    verdicts = [v for v in evidence.verdicts if _finite(v)]
    with matplotlib.rc_context(STYLE):
        height = 1.3 + 0.32 * len(verdicts)
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        axes = drawn.subplots()
        for sign in (-1, 1) if evidence.terms.smallest else ():
            at = sign * evidence.terms.smallest
            axes.axvline(at, color=SOFT, linewidth=0.8, linestyle=":", zorder=1)
        axes.axvline(0.0, color=PALETTE[0], linewidth=1.0, zorder=1)
        for y, verdict in enumerate(verdicts):
            _line(axes, verdict, y)
        axes.set_yticks(
            range(len(verdicts)),
            [
                f"{page.name(v.step)}\n{v.outcome} {v.direction}".rstrip()
                for v in verdicts
            ],
        )
        axes.tick_params(axis="y", length=0, labelsize=7.5)
        axes.set_ylim(len(verdicts) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=8 if page is WIDE else 4)
        metric = evidence.terms.metric
        better = "left" if metric.lower_is_better else "right"
        axes.set_title(f"Arm minus control: better is to the {better}")
        axes.set_xlabel(f"{metric.title}, {metric.unit}")
        return drawn


def colour_of(verdict: Verdict) -> str:
    """Blue, orange or grey."""
    return {"better": BLUE, "worse": ORANGE}.get(verdict.direction, SOFT)


def _finite(verdict: Verdict) -> bool:
    d = list(verdict.differences.values())
    return bool(d) and all(map(math.isfinite, d))


def _line(axes: Axes, verdict: Verdict, y: int) -> None:
    d = list(verdict.differences.values())
    tone = colour_of(verdict)
    axes.scatter(d, [y + 0.22] * len(d), s=7, color=tone, alpha=0.6, linewidth=0)
    if verdict.outcome == AA:
        low, high = verdict.measured.interval
        band = Rectangle((low, y - 0.45), high - low, 0.9)
        band.set(color=GREY, alpha=0.45, linewidth=0, zorder=0)
        axes.add_patch(band)
    if verdict.measured is not None:
        axes.plot(verdict.measured.interval, (y, y), color=tone, linewidth=1.1)
        axes.plot(verdict.measured.narrow, (y, y), color=tone, linewidth=3.0, alpha=0.6)
    face = tone if verdict.direction else "white"
    mark = MARKS.get(verdict.outcome, "o")
    axes.scatter(
        [sum(d) / len(d)],
        [y],
        s=30,
        marker=mark,
        facecolor=face,
        edgecolor=tone,
        zorder=3,
    )
