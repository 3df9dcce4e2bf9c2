"""What a run drew from the GPUs, from the samples beside it (gpu.jsonl).

Of a sample `attempt`, `time` (unix seconds) and `gpu/0/power_w`, `gpu/1/power_w` …
in watts are read (docs/operations.md has all of it).
"""

import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator

from matrix import units
from records.jsonl import Row
from records.layout import RecordError
from records.read import samples

LONGEST = 20.0
"""Seconds between two samples beyond which nothing is known of the power: twice the
longest interval of the sampler."""
POWER = re.compile(r"gpu/[0-9]+/power_w")
COUNTED = re.compile(r"gpu/[0-9]+/processes")


@dataclass(frozen=True)
class Energy:
    """What was measured, and what was not.

    `joules` over `seconds`; `gaps` are (attempt, seconds) between samples that lie
    further apart than LONGEST, `unsampled` the attempts without two samples.
    """

    joules: float
    seconds: float
    gaps: tuple[tuple[int, float], ...] = ()
    unsampled: tuple[int, ...] = ()

    @property
    def remark(self) -> str:
        """What the joules leave out; empty when nothing."""
        parts = [
            f"{units.duration(seconds)} of attempt {attempt} between two samples"
            for attempt, seconds in self.gaps
        ]
        parts += [f"all of attempt {attempt}" for attempt in self.unsampled]
        return ", ".join(parts)


def measure(rows: Iterable[Row], attempts: Iterable[int]) -> Energy | None:
    """The energy of all attempts of a run; None when none was sampled.

    Per attempt ∫ Σ_g P_g dt by the trapezoidal rule over the samples in the order
    of their time, P_g in W and t in s, so the result is in J. A sample counts when
    it holds the power of every GPU that the attempt's samples name. `attempts` are
    the attempts that were started.
    """
    joules, seconds, gaps, unsampled = 0.0, 0.0, [], []
    taken = {attempt: _Samples() for attempt in attempts}
    for row in rows:
        taken.setdefault(row["attempt"], _Samples()).add(row)
    for attempt in sorted(taken):
        samples = taken[attempt].whole()
        if len(samples) < 2:
            unsampled.append(attempt)
        for (start, first), (end, last) in zip(samples, samples[1:]):
            if end - start > LONGEST:
                gaps.append((attempt, end - start))
                continue
            joules += (end - start) * (first + last) / 2
            seconds += end - start
    if not seconds:
        return None
    return Energy(joules, seconds, tuple(gaps), tuple(unsampled))


class _Samples:
    """The samples of an attempt as columns: time, watts and how many GPUs gave them."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._time, self._watts = array("d"), array("d")
        self._gpus = array("q")

    def add(self, row: Row) -> None:
        """Take over a row of gpu.jsonl."""
        named = [key for key in row if POWER.fullmatch(key)]
        self._names.update(named)
        watts = [row[key] for key in named if row[key] is not None]
        self._time.append(row["time"])
        self._watts.append(sum(watts))
        self._gpus.append(len(watts))

    def whole(self) -> list[tuple[float, float]]:
        """(time, watts of all GPUs) of the samples that name every GPU, by time."""
        columns = zip(self._time, self._watts, self._gpus)
        every = len(self._names)
        return sorted((t, watts) for t, watts, gpus in columns if gpus == every > 0)


class _Processes:
    """The samples one after the other, and the most processes that a GPU had."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows, self.seen = rows, None

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            counts = [int(row[key]) for key in row if COUNTED.fullmatch(key)]
            self.seen = max(counts + [self.seen or 0]) if counts else self.seen
            yield row


def read(path: Path, attempts: Iterable[int], tokens: int | None) -> dict[str, Any]:
    """What a report reads at energy.joules, energy.per_token (J/token) …

    Empty where there is no gpu.jsonl or nothing was measured; `remark` says what the
    number leaves out, or why a damaged file gives none; `processes` are the most that
    computed on one of the GPUs at once, absent where no sample counts them.
    """
    try:
        most = _Processes(samples(path))
        found = measure(most, attempts)
    except FileNotFoundError:
        return {}
    except RecordError as error:
        return {"remark": f"{path.name} {error.why}"}
    processes = {} if most.seen is None else {"processes": most.seen}
    if found is None:
        return {"remark": f"{path.name} holds no two samples in a row", **processes}
    return {
        **processes,
        "joules": found.joules,
        "seconds": found.seconds,
        "per_token": found.joules / tokens if tokens else None,
        "remark": found.remark,
    }


def mean_power(path: Path) -> float | None:
    """Watts of all of a run's GPUs together, the mean of the samples that hold every
    one's; None without any, and where one of them is damaged.
    """
    every = _Samples()
    try:
        for row in samples(path):
            every.add(row)
    except (FileNotFoundError, RecordError):  # the report says what is wrong with it
        return None
    watts = [watts for _, watts in every.whole()]
    return sum(watts) / len(watts) if watts else None
