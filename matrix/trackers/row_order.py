"""The rows of a cell in one order that never changes: row n is row n for ever.

A cell's rows lie in metrics.jsonl and gpu.jsonl, written by two hands. A mirror
notes in which order it took them, one letter per row, before it passes them on; a
mirror that was killed takes them in that order again. So the number of rows that a
tracker holds says where to go on, and nothing is sent twice.
"""

import os
from collections import deque
from pathlib import Path
from typing import Any, Callable, Iterator

from matrix.trackers.content import (
    Numbers,
    flatten,
    flatten_gpu,
    flatten_summary,
)
from records import fields, read
from records.files import read_bytes
from records.jsonl import Growing, Reader
from records.kinds import Kind
from records.layout import CellDir, RecordError

METRIC, GPU, SUMMARY = "m", "g", "s"
FOLDER = "mirror"


class Lines:
    """The complete rows of a growing file, each handed out once."""

    def __init__(self, path: Path, kind: Kind, flat: Callable[[Any], Numbers]):
        self._lines, self._reader = Growing(path), Reader(path, kind)
        self._flat = flat

    def new(self) -> Iterator[Numbers]:
        """The rows that were added since the last call and hold numbers.

        Raises RecordError for a row that is damaged.
        """
        for line in self._lines.lines():
            row = self._reader.row(line)
            if row is not None and (numbers := self._flat(row)):
                yield numbers


class NumberedRows:
    """The numbered rows of one cell for one tracker."""

    def __init__(self, cell: CellDir, tracker: str):
        self.cell = cell
        self.path = cell.path / FOLDER / f"{tracker}.order"
        self.path.parent.mkdir(exist_ok=True)
        self._order = _noted(self.path)
        self._files = {
            METRIC: Lines(cell.metrics, fields.metric, flatten),
            GPU: Lines(cell.gpu, fields.sample, flatten_gpu),
        }
        self._waiting: dict[str, deque[Numbers]] = {
            letter: deque() for letter in (METRIC, GPU, SUMMARY)
        }
        self._summary_read = False
        self.taken = 0

    def poll(self, ended: bool = False) -> list[tuple[int, Numbers]]:
        """(n, row) of every row that came since the last call.

        With `ended` the summary, where there is one, follows as the last row. Raises
        RecordError when rows are gone that an earlier mirror has seen.
        """
        for letter, lines in self._files.items():
            self._waiting[letter].extend(lines.new())
        if ended and not self._summary_read and self.cell.summary.exists():
            self._summary_read = True
            summary = read.summary(self.cell.summary)
            self._waiting[SUMMARY].append(flatten_summary(summary))
        self._note()
        found = []
        while self.taken < len(self._order):
            waiting = self._waiting[self._order[self.taken]]
            if not waiting:
                break
            found.append((self.taken, waiting.popleft()))
            self.taken += 1
        if ended and self.taken < len(self._order):
            raise RecordError(
                self.path, f"names {len(self._order)} rows, the files hold {self.taken}"
            )
        return found

    def _note(self) -> None:
        """Append a letter for every row that has none yet."""
        rest = self._order[self.taken :]
        added = "".join(
            letter * (len(waiting) - rest.count(letter))
            for letter, waiting in self._waiting.items()
        )
        if not added:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o666)
        try:
            os.write(descriptor, added.encode())
        finally:
            os.close(descriptor)
        self._order += added


def _noted(path: Path) -> str:
    """The order that an earlier mirror noted, "" before the first.

    Raises RecordError.
    """
    try:
        order = read_bytes(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    if strange := set(order) - {METRIC, GPU, SUMMARY}:
        raise RecordError(path, f"holds {min(strange)!r}: remove the file's folder")
    return order
