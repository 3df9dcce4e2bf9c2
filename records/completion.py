"""What a finished cell has left to do, whoever does it.

summary.json is the completion mark: with it the cell is done, whatever else its
directory says. The rest of the attempt follows it: the end row, no failure.json, no
resume checkpoints (unless the summary keeps them), no half-written files. The
training process does that, and after a kill or a full disk the next `make`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from records import atomic, checkpoints, read
from records.jsonl import Row, drop_torn, open_append
from records.layout import CellDir

HALF = re.compile(r"\..+\.tmp")
"""What records.atomic and its like leave when they are killed."""


def end_row(attempt: int, status: str, error: str | None, step: int) -> Row:
    """The end of an attempt, without its `time` and `seconds`."""
    told = {"event": "end", "attempt": attempt}
    return {**told, "status": status, "error": error, "step": step}


def leftovers(
    cell: CellDir, summary: Mapping[str, Any], attempts: Sequence[Row]
) -> tuple[str, ...]:
    """What `settle` would do in a cell with this summary, in words; () for nothing."""
    dropped, half = _dropped(cell, summary), _half_written(cell)
    found = []
    if _missing_end(summary, attempts):
        found.append("record the end of its last attempt")
    if cell.failure.exists():
        found.append(f"remove a {cell.failure.name} that it overrules")
    if dropped:
        found.append(f"drop {_plural(len(dropped), 'checkpoint')}")
    if half:
        found.append(f"remove {_plural(len(half), 'half-written file')}")
    if cell.heartbeat.exists():
        found.append("remove the heartbeat of a dead process")
    return tuple(found)


def settle(cell: CellDir, times: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """Do what `leftovers` names, under the cell's lease, whose release removes the
    heartbeat; returns that.

    times: `time` and `seconds` of the last attempt's end, None: as its start and its
    summary have them. Checkpoints go last, once the disk holds the summary. Can be
    interrupted and called again.
    Raises OSError, and RecordError for a summary or rows that cannot be read.
    """
    summary = read.summary(cell.summary)
    attempts = read.attempts(cell.attempts) if cell.attempts.exists() else []
    found = leftovers(cell, summary, attempts)
    atomic.sync_directory(cell.path)
    end = _missing_end(summary, attempts)
    if end is not None:
        drop_torn(cell.attempts)
        with open_append(cell.attempts) as rows:
            rows.append({**end, **(times or {})})
    cell.failure.unlink(missing_ok=True)
    for path in (*_half_written(cell), *_dropped(cell, summary)):
        path.unlink(missing_ok=True)
    return found


def _missing_end(summary: Mapping[str, Any], attempts: Sequence[Row]) -> Row | None:
    """The end of the last attempt where no row says that it is done.

    Where one says that it failed (older versions: in the clean-up) or was stopped, it
    has counted the seconds. None where the records hold no start or no seconds.
    """
    starts = [row for row in attempts if row.get("event") == "start"]
    taken = summary.get("wall_time")
    began = starts[-1].get("time") if starts else None
    if not _number(taken) or not _number(began):
        return None
    attempt = len(starts)
    ends = [
        row
        for row in attempts
        if row.get("event") == "end" and row.get("attempt") == attempt
    ]
    if ends and ends[-1].get("status") == "done":
        return None
    times = {"time": began + taken, "seconds": 0.0 if ends else taken}
    return {**end_row(attempt, "done", None, summary["step"]), **times}


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _dropped(cell: CellDir, summary: Mapping[str, Any]) -> list[Path]:
    """The resume checkpoints that the run did not ask to keep."""
    if summary.get("keep_checkpoints") is not False:  # older versions do not say
        return []
    return checkpoints.existing(cell.checkpoint_dir)


def _half_written(cell: CellDir) -> list[Path]:
    """Temporary files beside the records, checkpoints and what a divergence left."""
    folders = (cell.path, cell.checkpoint_dir, cell.diverged)
    inside = [
        path for folder in folders if folder.is_dir() for path in folder.iterdir()
    ]
    return sorted(path for path in inside if HALF.fullmatch(path.name))


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
