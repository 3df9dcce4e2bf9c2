"""What a run drew from the GPUs, from the samples beside it (gpu.jsonl).

Of a sample `attempt`, `time` (unix seconds) and `gpu/0/power_w`, `gpu/1/power_w` …
in watts are read (docs/operations.md has all of it).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

from matrix import units
from records.jsonl import Row, read_rows
from records.layout import RecordError

LONGEST = 20.0
"""Seconds between two samples beyond which nothing is known of the power: twice the
longest interval of the sampler."""
POWER = re.compile(r"gpu/[0-9]+/power_w")


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
            f"{seconds:.0f} s of attempt {attempt} between two samples"
            for attempt, seconds in self.gaps
        ]
        parts += [f"all of attempt {attempt}" for attempt in self.unsampled]
        return ", ".join(parts)


def measure(rows: Sequence[Row], attempts: Iterable[int]) -> Energy | None:
    """The energy of all attempts of a run; None when none was sampled.

    Per attempt ∫ Σ_g P_g dt by the trapezoidal rule over the samples in the order
    of their time, P_g in W and t in s, so the result is in J. A sample counts when
    it holds the power of every GPU that the attempt's samples name. `attempts` are
    the attempts that were started.
    """
    joules, seconds, gaps, unsampled = 0.0, 0.0, [], []
    for attempt in sorted({*attempts, *(row["attempt"] for row in rows)}):
        samples = _samples([row for row in rows if row["attempt"] == attempt])
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


def _samples(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """(time, watts of all GPUs) of the whole samples of an attempt, by time."""
    names = units.distinct(key for row in rows for key in row if POWER.fullmatch(key))
    whole = [row for row in rows if all(row.get(name) is not None for name in names)]
    return sorted(
        (row["time"], sum(row[name] for name in names)) for row in whole if names
    )


def read(path: Path, attempts: Iterable[int], tokens: int | None) -> dict[str, Any]:
    """What a report reads at energy.joules, energy.per_token (J/token) …

    Empty where there is no gpu.jsonl or nothing was measured; `remark` says what the
    number leaves out, or why a damaged file gives none.
    """
    try:
        found = measure(read_rows(path), attempts)
    except FileNotFoundError:
        return {}
    except RecordError as error:
        return {"remark": f"{path.name} {error.why}"}
    if found is None:
        return {"remark": f"{path.name} holds no two samples in a row"}
    return {
        "joules": found.joules,
        "seconds": found.seconds,
        "per_token": found.joules / tokens if tokens else None,
        "remark": found.remark,
    }
