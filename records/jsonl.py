"""Append-only rows: metrics.jsonl and attempts.jsonl.

A row is one JSON object on one line, written by a single write(2) on a
descriptor opened with O_APPEND, so that a killed process leaves at most one
torn line, the last. The next attempt ends that line before it adds its own;
readers skip a torn line exactly there and nowhere else. Numbers that are not
finite appear as NaN, Infinity, -Infinity (Python's JSON).
"""

import json
import os
from pathlib import Path
from typing import Any, Iterable, Mapping

from records.layout import RecordError

Row = dict[str, Any]


class Appender:
    """An open file of rows. Use as a context manager or call `close`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o666)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; raises OSError, with the file and the system's reason, when
        the disk does not take all of it.

        What it took of the row is taken back, so that the rows before stay
        readable and others can follow.
        """
        data = json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
        size = os.fstat(self._fd).st_size
        try:
            while data:  # a disk that is nearly full takes a part, then says why
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def sync(self) -> None:
        """Flush the rows to the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_append(path: Path | str) -> Appender:
    """Open for appending; a torn last line is terminated first."""
    return Appender(path)


def drop_torn(path: Path | str) -> None:
    """Cut off a last line that has no end; nobody else may write or follow the file."""
    data = Path(path).read_bytes()
    if not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def read_rows(path: Path | str) -> list[Row]:
    """Every row of the file, in order.

    A line that is not a JSON object is skipped when it is the last one or
    when the row after it starts another attempt (its `attempt` is higher
    than that of every row before); anywhere else it raises RecordError.
    Raises FileNotFoundError.
    """
    lines = Path(path).read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    rows: list[Row] = []
    attempt, torn = 0, None
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is None:
            if torn is not None:
                raise RecordError(path, f"line {torn} is malformed")
            torn = number
            continue
        starts = row.get("attempt", 0) > attempt
        if torn is not None and not starts:
            raise RecordError(
                path, f"line {torn} is malformed and no new attempt follows it"
            )
        torn = None
        attempt = max(attempt, row.get("attempt", 0))
        rows.append(row)
    return rows


def _parse(line: bytes) -> Row | None:
    """The line's object, None when it is not one."""
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError:  # bad UTF-8 or bad JSON
        return None
    return row if isinstance(row, dict) else None


def last_per_step(rows: Iterable[Row], kind: str) -> list[Row]:
    """The rows of `kind`, the last written one of each step, by step."""
    last = {row["step"]: row for row in rows if row.get("kind") == kind}
    return [last[step] for step in sorted(last)]
