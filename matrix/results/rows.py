"""One row per step: its runs, their losses, the paired differences to the control."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Callable, Iterable, Mapping

from matrix import units
from matrix.results.runs import Run, Study

LOSS = "loss"
BITS = "bits_per_byte"


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
        peaks = [run.at("summary.peak_memory_bytes") for run in self.runs.values()]
        return None if None in peaks or not peaks else max(peaks)

    def same(self, path: str, show: Callable[[Any], str]) -> str:
        """A property of the model: its value, or "a – b" when the seeds disagree."""
        found = units.distinct(run.at(path) for run in self.runs.values())
        return " / ".join(show(value) for value in found) or units.DASH

    def average(self, path: str) -> float | None:
        """Mean of a measurement over the seeds; None unless all recorded it."""
        values = [run.at(path) for run in self.runs.values()]
        return None if None in values else mean(values)


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


def make_rows(
    study: Study, last_evals: int, helps: Mapping[str, str] | None = None
) -> tuple[Row, ...]:
    """A row per step in the study's order; the first is the control."""
    losses = {
        step: {k: run.last(LOSS, last_evals) for k, run in study.of(step).items()}
        for step in study.steps
    }
    made = []
    for number, step in enumerate(study.steps, start=1):
        runs = study.of(step)
        arm = next((run.at("run.cell.arm") or {} for run in runs.values()), {})
        dense = arm.get("dense")
        bits = [run.last(BITS, last_evals) for run in runs.values()]
        made.append(
            Row(
                ref=f"R{number}",
                step=step,
                help=(helps or {}).get(step, ""),
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


def _paired(
    losses: Mapping[str, Mapping[int, float]], step: str, other: str | None
) -> dict[int, float]:
    """step − other by seed, where both have one; nothing against itself."""
    if other == step or other not in losses:
        return {}
    mine, theirs = losses[step], losses[other]
    return {k: mine[k] - theirs[k] for k in sorted(mine.keys() & theirs.keys())}
