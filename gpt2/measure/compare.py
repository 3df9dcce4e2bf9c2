"""Two records of `make bench`: what became slower or larger, beyond the noise.

Clocks differ between calls by more than what is looked for, so milliseconds are
never compared: a row's ratio to its anchor is, each taken in its own rounds.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpt2.measure.record import key, load, records
from records.layout import RecordError

# A change below this says nothing: how far ratios of two calls on one GPU differ.
FLOOR = 0.02
# Standard errors of the rounds that a change has to exceed.
ERRORS = 3.0


class Change(NamedTuple):
    """One quantity of one row in both records; noise: what a change must exceed,
    relative like change itself.
    """

    row: str
    before: float
    after: float
    noise: float

    @property
    def change(self) -> float:
        """after / before − 1."""
        return self.after / self.before - 1

    @property
    def mark(self) -> str:
        """worse, better, or nothing."""
        if abs(self.change) <= self.noise:
            return ""
        return "worse" if self.change > 0 else "better"


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Rows that both records have, in the order of the later one: the ratio to the
    anchor, and peak memory where it was measured.
    """
    earlier = {key(row): row for row in before["rows"]}
    found = []
    for row in after["rows"]:
        old = earlier.get(key(row))
        if old is None:
            continue
        name = f"{row['part']} {row['group']}: {row['name']}"
        if old["anchor"] != row["anchor"]:
            raise ValueError(f"{name}: anchors {old['anchor']} and {row['anchor']}")
        if row["name"] != row["anchor"]:
            spread = math.hypot(
                old["error"] / old["ratio"], row["error"] / row["ratio"]
            )
            noise = max(FLOOR, ERRORS * spread)
            found.append(Change(name, old["ratio"], row["ratio"], noise))
        if old.get("peak_bytes") and row.get("peak_bytes"):
            peaks = (x["peak_bytes"] / 2**30 for x in (old, row))
            found.append(Change(f"{name}, peak GiB", *peaks, FLOOR))
    return found


def pick(
    folder: Path,
    a: Path | None,
    b: Path | None,
    say: Callable[[str], object] = print,
) -> tuple[Path, Path]:
    """(before, after): b or the last record; a or the last one before b of the same
    GPU that shares a row with it; `say` names damaged records. Raises RecordError where
    there is none.
    """
    known = list(records(folder, say))
    if b is None:
        if not known:
            raise RecordError(folder, "no record of make bench yet")
        b = known[-1][0]
    after = load(b)
    if a is not None:
        return a, b
    if not after["calls"]:
        raise RecordError(b, "calls is empty")
    began, rows = after["calls"][0]["began"], set(map(key, after["rows"]))
    for path, content in reversed(known):
        if path.resolve() == b.resolve() or content["calls"][0]["began"] >= began:
            continue
        same = content["device"]["name"] == after["device"]["name"]
        if same and rows & set(map(key, content["rows"])):
            return path, b
    device = after["device"]["name"]
    raise RecordError(b, f"no earlier record of {device} shares a row: name one (A=…)")


def table(found: Sequence[Change]) -> str:
    """A line per change, those beyond the noise marked."""
    width = max(len(change.row) for change in found)
    lines = [f"{'':{width}} {'before':>8} {'after':>8}   change   noise"]
    for c in found:
        numbers = f"{c.before:8.3f} {c.after:8.3f} {c.change:+8.1%} {c.noise:7.1%}"
        lines.append(f"{c.row:{width}} {numbers}  {c.mark}".rstrip())
    return "\n".join(lines)
