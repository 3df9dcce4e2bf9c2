"""A run as it was published: the same shape from W&B, its offline files, or ours."""

import math
import statistics
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence
from records.spelling import closest

Row = Mapping[str, Any]
STRANGE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class PublishedError(Exception):
    """Something that was asked for and is not there; the message says what is."""


@dataclass(frozen=True)
class PublishedRun:
    """One run.

    `history` holds its rows in the order in which they were logged, `events` the
    samples of its machine ({"time": unix s, "gpu/0/power_w": …}), `where` says where
    both were read. `project` is where it lies in W&B (ENTITY/PROJECT), None where it was
    not sent there; `uploaded` whether all of it arrived.
    """

    id: str
    name: str
    group: str
    step: str
    where: str
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    history: Sequence[Row] = field(default=(), repr=False)
    events: Sequence[Row] = field(default=(), repr=False)
    project: str | None = None
    uploaded: bool = True

    @property
    def keys(self) -> list[str]:
        """Every name in the history, in order of first appearance."""
        return list(dict.fromkeys(key for row in self.history for key in row))

    def series(self, key: str) -> dict[int, Any]:
        """{optimizer step: value}; of a step that was logged twice, the last one.

        Raises PublishedError, with the nearest names, for a name that is not there.
        """
        found = {row["step"]: row[key] for row in self.history if key in row}
        if not found:
            raise missing("metric", key, self.keys, f"in {self.name} ({self.where})")
        return dict(sorted(found.items()))

    def last(self, key: str) -> Any:
        """The value of the last step. Raises PublishedError."""
        return list(self.series(key).values())[-1]

    def final(self, key: str) -> Any:
        """The same, None where there is none."""
        return self.last(key) if any(key in row for row in self.history) else None


def missing(kind: str, name: str, known: Iterable[str], where: str) -> PublishedError:
    """The error about a name that is not there, with names that are."""
    known = list(known)
    near = closest(name, known, 3) or known[:8]
    there = f"; there is {', '.join(near)}" if near else "; there is none at all"
    return PublishedError(f"no {kind} {name!r} {where}{there}")


def plain(value: Any) -> Any:
    """A value as W&B's JSON has it, numbers that are not finite back as numbers."""
    return STRANGE.get(value, value) if isinstance(value, str) else value


def spread(values: Sequence[float]) -> dict[str, float]:
    """Samples, mean, least, median and most of a series of finite numbers."""
    return {
        "samples": len(values),
        "mean": statistics.fmean(values),
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
    }
