"""Training loss, learning rate and gradient norm over training, a line per step."""

from typing import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Section, Text
from matrix.report.plots.common import STYLE, WIDE, Page, colour, dashes, picture
from matrix.results.rows import Row, mean
from matrix.results.training_curve import MOST

SKIPPED = 0.05
"""Of the tokens; the axis of the training loss is fitted to what follows."""
TEXT = (
    "Training loss: of the batches, before their update, in nats/token; it is another "
    "number than the validation loss and no verdict stands on it. Gradient norm: before "
    "clipping. From metrics.jsonl; a run with more than "
    f"{MOST} rows is thinned: each point is the mean of 2, 4, 8 … rows that follow each "
    "other (the learning rate: the last of them)."
)
CAPTION = (
    "Mean over the seeds, a line per step. Thin lines at the gradient norm: the largest "
    "single norm of any seed. Steps with the same schedule share one line of the learning "
    f"rate. The axis of the training loss is fitted to what follows the first "
    f"{SKIPPED:.0%} of the tokens."
)
Curve = dict[int, float]


def section(report: Report) -> Section | None:
    """The three curves; None where no run has training rows."""
    rows = [
        row for row in report.rows if any(run.training for run in row.runs.values())
    ]
    if not rows:
        return None
    alt = "Training loss, learning rate and gradient norm of every step over training"
    block = picture(
        lambda page: figure(report.rows, page), "training-curves", alt, CAPTION
    )
    return Section("Training loss, learning rate, gradient norm", (Text(TEXT), block))


def curve(row: Row, name: str, of: str = "mean") -> Curve:
    """A field of Point by tokens, over the seeds, where all of a step's runs have it."""
    runs = [run.training for run in row.runs.values() if run.training]
    each = [{point.tokens: point._asdict()[name] for point in run} for run in runs]
    shared = sorted(set.intersection(*map(set, each))) if each else []
    found = {tokens: [values[tokens] for values in each] for tokens in shared}
    together = {"mean": mean, "max": max}[of]
    return {t: together(v) for t, v in found.items() if None not in v}


def figure(rows: Sequence[Row], page: Page = WIDE) -> Figure:
    """Three panels above each other that share the axis of the tokens."""
    with matplotlib.rc_context(STYLE):
        height = 6.0 + page.legend_height(len(rows))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        loss, rate, norm = drawn.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
        schedules: list[Curve] = []
        for number, row in enumerate(rows):
            look = dict(color=colour(number), linestyle=dashes(number), linewidth=1.2)
            _line(loss, curve(row, "loss"), label=page.name(row.step), **look)
            schedule = curve(row, "rate")
            if schedule and schedule not in schedules:
                schedules.append(schedule)
                _line(rate, schedule, **look)
            _line(norm, curve(row, "norm"), **look)
            _line(
                norm,
                curve(row, "largest", "max"),
                **{**look, "linewidth": 0.5, "alpha": 0.55},
            )
        loss.set_title("Training loss, nats/token")
        rate.set_title("Learning rate")
        norm.set_title("Gradient norm")
        norm.set_xlabel("Tokens trained on")
        _fit(loss)
        if all(y > 0 for line in norm.get_lines() for y in line.get_ydata()):
            norm.set_yscale("log")
            norm.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
            norm.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            norm.yaxis.set_minor_formatter(NullFormatter())
        rate.set_ylim(bottom=0)
        form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
        norm.xaxis.set_major_formatter(form)
        drawn.legend(loc="outside lower center", ncols=min(page.legend, len(rows)))
        return drawn


def _line(axes: Axes, found: Curve, **look: object) -> None:
    if found:
        axes.plot(list(found), list(found.values()), **look)


def _fit(axes: Axes) -> None:
    """Limit the y axis to what follows the first part of the tokens."""
    points = [point for line in axes.get_lines() for point in line.get_xydata()]
    last = max((x for x, _ in points), default=0)
    shown = [y for x, y in points if x >= SKIPPED * last]
    if shown:
        pad = 0.06 * (max(shown) - min(shown)) or 0.001
        axes.set_ylim(min(shown) - pad, max(shown) + pad)
        axes.set_xlim(0, 1.01 * last or 1)
