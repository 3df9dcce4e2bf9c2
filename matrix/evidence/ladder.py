"""A ladder: every arm's difference to the control, size by size.

A description of several studies beside each other. Intervals and trends are over the
seeds; what may be claimed at a size is decided in that size's study alone.
"""

import math
from dataclasses import dataclass
from typing import Mapping, Sequence

from matrix.evidence import stats
from matrix.evidence.gather import Report, gather
from matrix.evidence.verdict import INVALID, NON_DIAGNOSTIC, Verdict
from matrix.plan.cells import Plan
from matrix.plan.ladder import Rung
from matrix.plan.selection import selected
from matrix.results.rows import Row
from matrix.results.run import ReportError

FEWEST_SIZES, FEWEST_SEEDS = 3, 3
"""Sizes below which no line is drawn through an arm's differences, and seeds below which
its slope has no interval."""
OCTAVE = 2.0
"""How far past the largest size a line goes: by this factor, no further."""


@dataclass(frozen=True)
class Point:
    """An arm at a size: parameters without embeddings, training FLOPs, differences.

    remark says why the differences are no comparison; such a point has no interval and
    is in no trend. size and compute are None where a record lacks them.
    """

    rung: str
    size: float | None
    compute: float | None
    differences: Mapping[int, float]
    interval: tuple[float, float] | None
    remark: str

    def at(self, against: str) -> float | None:
        """Where it stands against "size" or "compute"."""
        return self.size if against == "size" else self.compute

    @property
    def mean(self) -> float | None:
        """The mean difference."""
        d = list(self.differences.values())
        return math.fsum(d) / len(d) if d else None


@dataclass(frozen=True)
class Trend:
    """A least-squares line of the mean differences in log2 of size or compute.

    low and high are the ends of what was run; slope is per doubling, `slopes` the same
    of every seed alone, `interval` its t-interval over the seeds.
    """

    intercept: float
    slope: float
    low: float
    high: float
    slopes: Mapping[int, float]
    interval: tuple[float, float] | None

    def at(self, x: float) -> float:
        """The line at x. Raises ValueError outside of what was run, an octave above
        the largest included: further out it says nothing.
        """
        if not self.low <= x <= OCTAVE * self.high:
            raise ValueError(
                f"{x:g} is outside of {self.low:g} to {OCTAVE:g} × {self.high:g}"
            )
        return self.intercept + self.slope * math.log2(x)


@dataclass(frozen=True)
class Ladder:
    """The sizes of a study, smallest first, and every arm at each."""

    study: str
    rungs: tuple[Rung, ...]
    reports: Mapping[str, Report]
    missing: Mapping[str, str]
    arms: Mapping[str, tuple[Point, ...]]
    level: float

    def controls(self, against: str) -> list[float | None]:
        """The size or compute of every control, in the order of the sizes."""
        rows = [
            self.reports[r.name].rows[0] for r in self.rungs if r.name in self.reports
        ]
        return [_size(row) if against == "size" else compute(row) for row in rows]


def assemble(rungs: Sequence[Rung], plans: Sequence[Plan]) -> Ladder:
    """What the runs of every size show; a size without a finished run is named."""
    reports: dict[str, Report] = {}
    missing: dict[str, str] = {}
    for rung, plan in zip(rungs, plans):
        try:
            reports[rung.name] = gather(plan.study_dir, selected(plan))
        except ReportError as error:
            missing[rung.name] = str(error).splitlines()[0]
    first = plans[0].settings
    label = first.label.removesuffix(f".{first.part}")
    return ladder(label, rungs, reports, missing, 1 - first.alpha)


def ladder(
    study: str,
    rungs: Sequence[Rung],
    reports: Mapping[str, Report],
    missing: Mapping[str, str],
    level: float,
) -> Ladder:
    """The points of every arm of any size, by size of its control."""

    def control_size(rung: Rung) -> float:
        if rung.name not in reports:
            return math.inf
        return _size(reports[rung.name].rows[0]) or math.inf

    ordered = sorted(rungs, key=control_size)
    arms: dict[str, list[Point]] = {}
    for rung in (rung for rung in ordered if rung.name in reports):
        report = reports[rung.name]
        rows = {row.step: row for row in report.rows}
        for verdict in report.evidence.verdicts:
            point = _point(rung.name, rows.get(verdict.step), verdict, level)
            arms.setdefault(verdict.step, []).append(point)
    whole = {step: tuple(points) for step, points in arms.items()}
    return Ladder(study, tuple(ordered), reports, missing, whole, level)


def _point(rung: str, row: Row | None, verdict: Verdict, level: float) -> Point:
    lost = verdict.outcome in (INVALID, NON_DIAGNOSTIC)
    d = list(verdict.differences.values())
    return Point(
        rung=rung,
        size=row and _size(row),
        compute=row and compute(row),
        differences=verdict.differences,
        interval=None if lost else stats.interval(d, level),
        remark=f"{verdict.outcome}: {'; '.join(verdict.reasons)}" if lost else "",
    )


def _size(row: Row) -> float | None:
    """Parameters without embeddings."""
    return row.average("parameters_no_embedding")


def compute(row: Row) -> float | None:
    """Training FLOPs of a run: FLOPs per token × tokens, mean over the seeds."""
    flops, tokens = row.average("flops_per_token"), row.average("tokens")
    return None if flops is None or tokens is None else flops * tokens


def trend(points: Sequence[Point], against: str, level: float) -> Trend | None:
    """The line through an arm's comparable points, against "size" or "compute"; None
    with fewer than FEWEST_SIZES of them.
    """
    placed = [(point.at(against), point) for point in points if not point.remark]
    placed = [(x, point) for x, point in placed if x is not None]
    xs = [math.log2(x) for x, _ in placed]
    if len(set(xs)) < FEWEST_SIZES:
        return None
    means = [point.mean for _, point in placed]
    seeds = set.intersection(*(set(point.differences) for _, point in placed))
    slopes = {
        seed: _slope(xs, [point.differences[seed] for _, point in placed])
        for seed in sorted(seeds)
    }
    each = list(slopes.values())
    spread = len(each) >= FEWEST_SEEDS and not stats.tied(each)
    slope = _slope(xs, means)
    middle = math.fsum(xs) / len(xs)
    return Trend(
        intercept=math.fsum(means) / len(means) - slope * middle,
        slope=slope,
        low=min(x for x, _ in placed),
        high=max(x for x, _ in placed),
        slopes=slopes,
        interval=stats.interval(each, level) if spread else None,
    )


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    middle = math.fsum(xs) / len(xs)
    square = math.fsum((x - middle) ** 2 for x in xs)
    return math.fsum((x - middle) * y for x, y in zip(xs, ys)) / square
