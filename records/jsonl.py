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
from typing import Any, Iterable, Iterator, Mapping

from records.files import CHUNK, LONGEST, lines, open_record, reading
from records.kinds import Kind, Unfit, abbreviated, integer, sound
from records.layout import RecordError, parsed

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
        data = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
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


class Reader:
    """Makes rows of the lines of one file, taken in order; `kind` is what a row is.

    A line that is not JSON was torn by a killed process: it is passed over when it is
    the last one or when the row after it starts another attempt (its `attempt` is
    higher than that of every row before). Anywhere else it is damage, and so is a row
    that is not of its kind, wherever it stands.
    """

    def __init__(self, path: Path | str, kind: Kind = sound):
        self.path, self._kind = path, kind
        self._number, self._attempt, self._torn = 0, 0, 0

    def row(self, line: bytes) -> Row | None:
        """The next line's row, None for a torn one. Raises RecordError."""
        self._number += 1
        try:
            row = parsed(line)
        except ValueError:
            if self._torn:
                raise self._damaged(self._torn, "is malformed") from None
            self._torn = self._number
            return None
        try:
            if type(row) is not dict:
                raise Unfit(f"is {abbreviated(row)}, expected an object")
            self._kind(row)
            attempt = row.get("attempt", 0)
            NUMBER(attempt)
        except Unfit as unfit:
            raise self._damaged(self._number, str(unfit)) from None
        if self._torn:
            if attempt <= self._attempt:
                why = "is malformed and no new attempt follows it"
                raise self._damaged(self._torn, why)
            self._torn = 0
        self._attempt = max(attempt, self._attempt)
        return row

    def _damaged(self, number: int, why: str) -> RecordError:
        between = " " if why.startswith("is ") else ": "
        return RecordError(self.path, f"line {number}{between}{why}")


NUMBER = integer(0)


def rows(path: Path | str, kind: Kind = sound) -> Iterator[Row]:
    """The rows of a file in order, one at a time.

    Raises FileNotFoundError, and RecordError where Reader finds damage or no file is.
    """
    reader = Reader(path, kind)
    for line in lines(path):
        row = reader.row(line)
        if row is not None:
            yield row


def read_rows(path: Path | str, kind: Kind = sound) -> list[Row]:
    """Every row of the file, in order; raises what `rows` raises."""
    return list(rows(path, kind))


class Growing:
    """The complete lines of a file that grows, each handed out once."""

    def __init__(self, path: Path):
        self.path = path
        self._offset, self._rest = 0, b""

    def lines(self) -> Iterator[bytes]:
        """What was completed since the last call; nothing while there is no file.

        Raises RecordError.
        """
        try:
            file = open_record(self.path)
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            while added := reading(self.path, file, CHUNK):
                self._offset += len(added)
                *whole, self._rest = (self._rest + added).split(b"\n")
                if len(self._rest) > LONGEST:
                    why = f"has a line longer than {LONGEST >> 20} MiB"
                    raise RecordError(self.path, why)
                yield from whole


def last_per_step(rows: Iterable[Row], kind: str) -> list[Row]:
    """The rows of `kind`, the last written one of each step, by step."""
    last = {row["step"]: row for row in rows if row.get("kind") == kind}
    return [last[step] for step in sorted(last)]
