"""What a loss costs: cache, step time, parameters, energy, and the Pareto front.

A step is on the front of a cost when no other step has both a loss and a cost that
are as low, one of them lower. Fronts are made of means and claim nothing: whether
two steps differ in their loss is what verdicts say.
"""

from dataclasses import dataclass
from typing import Callable, Collection, Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Picture, Section, Table, Text
from matrix.report.plots.common import (
    GREY,
    SOFT,
    STYLE,
    WIDE,
    Page,
    byte_ticks,
    colour,
    marker,
    picture,
)
from matrix.results.cache_size import cache_bytes
from matrix.results.rows import Row, mean
from matrix.results.run import Run

LOGARITHMIC = (
    10.0  # costs of which the largest is this many times the least: logarithmic
)


@dataclass(frozen=True)
class Cost:
    """A cost by its name, how a run has it, and how it is written."""

    name: str
    title: str
    of: Callable[[Run], float | None]
    show: Callable[[float | None], str]


COSTS = (
    Cost("cache", "Cache of a full context", cache_bytes, units.memory),
    Cost(
        "step-time",
        "Step time",
        lambda run: run.value("average_step_time"),
        units.step_time,
    ),
    Cost(
        "parameters",
        "Parameters",
        lambda run: run.value("parameters"),
        units.scaled,
    ),
    Cost("energy", "Energy", lambda run: run.value("energy_joules"), units.energy),
)


@dataclass(frozen=True)
class Point:
    """A step's cost and loss over its runs; `number` is its place among the rows.

    `aa` marks an A/A arm: the control once more, no candidate for the front.
    """

    step: str
    number: int
    costs: tuple[float, ...]
    losses: tuple[float, ...]
    aa: bool = False

    @property
    def at(self) -> tuple[float, float]:
        """(mean cost, mean loss)."""
        return mean(self.costs), mean(self.losses)


def points(rows: Sequence[Row], cost: Cost, aa: Collection[str] = ()) -> list[Point]:
    """A point per step whose runs all record the cost."""
    found = []
    for number, row in enumerate(rows):
        costs = [cost.of(run) for run in row.runs.values()]
        if costs and None not in costs:
            losses = tuple(row.losses[seed] for seed in row.runs)
            again = row.step in aa
            found.append(Point(row.step, number, tuple(costs), losses, again))
    return found


def front(found: Iterable[Point]) -> list[Point]:
    """The points that no other dominates, by cost; A/A arms left out.

    One dominates another when its mean cost and mean loss are both as low and one
    of them is lower. Equal points are on the front together.
    """
    candidates = [point for point in found if not point.aa]
    kept = [
        one
        for one in candidates
        if not any(_dominates(other, one) for other in candidates)
    ]
    return sorted(kept, key=lambda point: point.at)


def _dominates(one: Point, other: Point) -> bool:
    (cost, loss), (its_cost, its_loss) = one.at, other.at
    return cost <= its_cost and loss <= its_loss and one.at != other.at


def section(report: Report) -> Section | None:
    """The plots of loss against every cost, and their numbers; None of one step."""
    rows = report.rows
    drawn = {}
    for cost in COSTS:
        found = points(rows, cost, report.evidence.aa)
        if len(found) > 1:
            drawn[cost.name] = (cost, found)
    if not drawn:
        return None
    text = (
        "A step is on the front of a cost when no other step has as low a mean loss "
        "for as low a mean cost. Fronts are made of means and claim nothing; whether "
        "two losses differ is what the verdicts say. Cache: of one sequence that "
        "fills the context, in the compute type."
    )
    if "step-time" in drawn:
        text += " Step time: mean over a run's timed steps."
    if "energy" not in drawn and report.study.configured:
        text += " Energy was not measured."
    pictures = [_picture(cost, found) for cost, found in drawn.values()]
    blocks = (Text(text), table(rows, drawn.values()), *pictures)
    return Section("Validation loss against cost", blocks)


def table(rows: Sequence[Row], drawn: Iterable[tuple[Cost, list[Point]]]) -> Table:
    """Loss, mean costs, and the fronts that a step is on."""
    drawn = list(drawn)
    columns = (
        Column("Step", "code"),
        Column("Validation loss, nats/token"),
        *(Column(cost.title) for cost, _ in drawn),
        Column("On the front of", "text"),
        Column("Runs", "ref"),
    )
    lines = []
    for row in rows:
        costs, fronts = [], []
        for cost, found in drawn:
            mine = [point for point in found if point.step == row.step]
            costs.append(cost.show(mine[0].at[0] if mine else None))
            fronts += [cost.title.lower()] * any(p in mine for p in front(found))
        line = (row.step, units.loss(row.mean), *costs, ", ".join(fronts), row.ref)
        lines.append(line)
    return Table(columns, tuple(lines))


def _picture(cost: Cost, found: list[Point]) -> Picture:
    caption = (
        f"Final validation loss against {cost.title.lower()}: a mark per step at the "
        "means, thin "
        "lines from the lowest to the highest seed. Filled marks on the dashed line "
        "are the Pareto front: lower loss takes more cost. Hollow: another step is as "
        "good in both."
    )
    if any(point.aa for point in found):
        caption += " Small and grey: A/A, the control again, not on any front."
    name = f"loss-{cost.name}"
    alt = f"Final validation loss of every step against {cost.title.lower()}"
    return picture(lambda page: figure(cost, found, page), name, alt, caption)


def figure(cost: Cost, found: Sequence[Point], page: Page = WIDE) -> Figure:
    """Loss against a cost; the front as a staircase through filled marks."""
    best = front(found)
    with matplotlib.rc_context(STYLE):
        height = 3.3 + page.legend_height(len(found))
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        axes = drawn.subplots()
        corners = list(zip(*(point.at for point in best)))
        axes.plot(
            *corners,
            color=SOFT,
            linewidth=1.1,
            linestyle=(0, (4, 2)),
            drawstyle="steps-post",
            zorder=2,
        )
        for point in found:
            _mark(axes, point, point in best, page.name(point.step))
        axes.margins(0.08)
        every = [point.at[0] for point in found]
        if min(every) > 0 and max(every) / min(every) > LOGARITHMIC:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(
                MaxNLocator(5 if page is WIDE else 3, steps=[1, 2, 5, 10])
            )
        form = FuncFormatter(lambda value, _: cost.show(value))
        axes.xaxis.set_major_formatter(form)
        axes.xaxis.set_minor_formatter(NullFormatter())
        if cost.show is units.memory and axes.get_xscale() == "linear":
            byte_ticks(axes)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_title("Final validation loss, nats/token")
        axes.set_xlabel(cost.title)
        drawn.legend(loc="outside lower center", ncols=min(page.legend, len(found)))
        return drawn


def _mark(axes: Axes, point: Point, filled: bool, label: str) -> None:
    """One step: its spread over the seeds, and its mean."""
    tone = GREY if point.aa else colour(point.number)
    cost, loss = point.at
    spread = dict(color=tone, linewidth=0.9, zorder=2.5)
    axes.plot([cost, cost], [min(point.losses), max(point.losses)], **spread)
    axes.plot([min(point.costs), max(point.costs)], [loss, loss], **spread)
    axes.plot(
        [cost],
        [loss],
        linestyle="none",
        marker=marker(point.number),
        markersize=5 if point.aa else 7.5,
        markerfacecolor=tone if filled else "white",
        markeredgecolor=SOFT if point.aa else tone,
        markeredgewidth=1.3,
        label=label,
        zorder=3,
    )
