"""One row per step: its runs, their losses, the paired differences to the control."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Callable, Iterable, Mapping

from matrix import units
from matrix.results.metrics import BITS_PER_BYTE, VAL_LOSS, Metric
from matrix.results.run import Run
from matrix.results.selection import Selection
from matrix.results.study import Study


@dataclass(frozen=True)
class Row:
    """One step over its counted runs.

    `losses` are nats/token by seed, each the mean of the run's last evaluations.
    `differences` are this step's loss minus the control's, for every seed that
    both have; empty for the control itself. `point` says where an arm of a test
    matrix stands, {} for other steps; `dense` is the arm without pruning that it is
    compared with as well, and `dense_differences` are those to that one.
    """

    ref: str
    step: str
    help: str
    runs: Mapping[int, Run]
    losses: Mapping[int, float]
    bits: float | None
    differences: Mapping[int, float]
    point: Mapping[str, str]
    dense: str | None
    dense_differences: Mapping[int, float]

    @property
    def mean(self) -> float | None:
        """Mean loss over the seeds, nats/token."""
        return mean(self.losses.values())

    @property
    def sd(self) -> float | None:
        """Standard deviation (n−1) of the losses over the seeds."""
        return deviation(self.losses.values())

    @property
    def difference(self) -> float | None:
        """Mean paired difference to the control, nats/token."""
        return mean(self.differences.values())

    @property
    def difference_sd(self) -> float | None:
        """Standard deviation (n−1) of the paired differences."""
        return deviation(self.differences.values())

    @property
    def dense_difference(self) -> float | None:
        """Mean paired difference to the arm without pruning, nats/token."""
        return mean(self.dense_differences.values())

    @property
    def peak_memory(self) -> int | None:
        """Most bytes over the seeds; None unless all recorded it."""
        peaks = self.values("peak_memory_bytes")
        return None if None in peaks or not peaks else max(peaks)

    def values(self, name: str) -> list[Any]:
        """A recorded value (matrix/results/recorded.py) of every run, by seed."""
        return [run.value(name) for run in self.runs.values()]

    def same(self, name: str, show: Callable[[Any], str]) -> str:
        """A property of the model: its value, or "a / b" when the seeds disagree."""
        found = units.distinct(self.values(name))
        return " / ".join(show(value) for value in found) or units.DASH

    def average(self, name: str) -> float | None:
        """Mean of a measurement over the seeds; None unless all recorded it."""
        values = self.values(name)
        return None if None in values else mean(values)

    def measured(self, metric: Metric, last_evals: int) -> dict[int, float | None]:
        """A metric by seed; None for a run that does not record it."""
        return {seed: metric.of(run, last_evals) for seed, run in self.runs.items()}


def mean(values: Iterable[float]) -> float | None:
    """The mean, None of nothing; not finite where a value is not."""
    values = list(values)
    if not all(map(math.isfinite, values)):
        return sum(values) / len(values)
    return fmean(values) if values else None


def deviation(values: Iterable[float]) -> float | None:
    """The sample standard deviation, None below two values, and of one not finite."""
    values = list(values)
    known = len(values) > 1 and all(map(math.isfinite, values))
    return stdev(values) if known else None


def make_rows(study: Study, selection: Selection = Selection()) -> tuple[Row, ...]:
    """A row per step in the study's order; the first is the control."""
    last_evals = selection.terms.last_evals
    losses = {
        step: {k: VAL_LOSS.of(run, last_evals) for k, run in study.of(step).items()}
        for step in study.steps
    }
    made = []
    for number, step in enumerate(study.steps, start=1):
        runs = study.of(step)
        arm = next((run.value("arm") or {} for run in runs.values()), {})
        dense = arm.get("dense")
        bits = [BITS_PER_BYTE.of(run, last_evals) for run in runs.values()]
        made.append(
            Row(
                ref=f"R{number}",
                step=step,
                help=selection.helps.get(step) or _recorded_help(runs.values()),
                runs=runs,
                losses=losses[step],
                bits=None if None in bits else mean(bits),
                differences=_paired(losses, step, study.steps[0]),
                point=arm.get("point", {}),
                dense=dense,
                dense_differences=_paired(losses, step, dense),
            )
        )
    return tuple(made)


def _recorded_help(runs: Iterable[Run]) -> str:
    """What a step's runs say of it; "" where none records it."""
    return next(filter(None, (run.value("help") for run in runs)), "")


def _paired(
    losses: Mapping[str, Mapping[int, float]], step: str, other: str | None
) -> dict[int, float]:
    """step − other by seed, where both have one; nothing against itself."""
    if other == step or other not in losses:
        return {}
    mine, theirs = losses[step], losses[other]
    return {k: mine[k] - theirs[k] for k in sorted(mine.keys() & theirs.keys())}
