"""The rows of a cell in one order that never changes: row n is row n for ever.

A cell's rows lie in metrics.jsonl and gpu.jsonl, written by two hands. A mirror
notes in which order it took them, one letter per row, before it passes them on; a
mirror that was killed takes them in that order again. So the number of rows that a
tracker holds says where to go on, and nothing is sent twice.
"""

import json
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
from records.layout import CellDir, RecordError, read_record

METRIC, GPU, SUMMARY = "m", "g", "s"
FOLDER = "mirror"


class Lines:
    """The complete rows of a growing file, each handed out once.

    A line that is not JSON was torn by a killed process; its successor ended it.
    """

    def __init__(self, path: Path, flat: Callable[[Any], Numbers]):
        self.path, self.flat = path, flat
        self._offset, self._rest = 0, b""

    def new(self) -> Iterator[Numbers]:
        """The rows that were added since the last call and hold numbers."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and (numbers := self.flat(row)):
                yield numbers


class Feed:
    """The numbered rows of one cell for one tracker."""

    def __init__(self, cell: CellDir, tracker: str):
        self.cell = cell
        self.path = cell.path / FOLDER / f"{tracker}.order"
        self.path.parent.mkdir(exist_ok=True)
        self._order = self.path.read_text() if self.path.exists() else ""
        self._files = {
            METRIC: Lines(cell.metrics, flatten),
            GPU: Lines(cell.gpu, flatten_gpu),
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
            summary = read_record(self.cell.summary)
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
