"""What a training loop last got done: heartbeat_rank0.jsonl, bounded in size.

A lease says that a process lives, a heartbeat that its loop moves: the loop
itself writes it, so that a step that never ends, a stopped process and a hung
device are all seen as a heartbeat that stops. Rows hold attempt, pid, time
(unix seconds), step, phase ("starting", "training", "evaluating", "saving"),
loss (nats/token, null before the first one is known) and memory_bytes.
"""

import os
import time
from pathlib import Path
from typing import Callable

from records import atomic
from records.fields import PROGRESS
from records.files import RecordError, open_record, reading
from records.jsonl import Appender, Row
from records.kinds import Kind, Unfit
from records.layout import parsed

EVERY = 1.0
"""Least seconds between two rows of one phase."""
KEEP = 300
"""Rows that stay when the file is cut; it is cut at twice as many."""


class Heartbeat:
    """The heartbeat of one attempt; `memory` gives the bytes in use."""

    def __init__(self, path: Path, attempt: int, memory: Callable[[], int]):
        self.path, self.attempt, self.memory = path, attempt, memory
        self._written, self._phase = -EVERY, ""
        _cut(path, KEEP)
        self._file = Appender(path)
        self._rows = KEEP

    def beat(self, step: int, phase: str, loss: float | None = None) -> None:
        """The loop is at `step`; cheap, call it as often as something is done."""
        now = time.monotonic()
        if phase == self._phase and now - self._written < EVERY:
            return
        self._written, self._phase = now, phase
        self._file.append(
            {
                "attempt": self.attempt,
                "pid": os.getpid(),
                "time": time.time(),
                "step": step,
                "phase": phase,
                "loss": loss,
                "memory_bytes": self.memory(),
            }
        )
        self._rows += 1
        if self._rows >= 2 * KEEP:
            self._file.close()
            _cut(self.path, KEEP)
            self._file = Appender(self.path)
            self._rows = KEEP

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def newest(path: Path, kind: Kind = PROGRESS) -> Row | None:
    """The last whole row, None where there is none.

    Raises RecordError for one that is not of its kind, and where no file is.
    """
    try:
        with open_record(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = reading(path, file, 8192).split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            row = parsed(line)
        except ValueError:  # torn by a kill, ended by the next attempt
            continue
        try:
            kind(row)
        except Unfit as unfit:
            raise RecordError(path, f"in its last row {unfit}") from None
        return row
    return None


def _cut(path: Path, keep: int) -> None:
    """Leave the last `keep` lines, in one piece."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    if len(lines) > keep:
        atomic.write_bytes(path, b"".join(lines[-keep:]), durable=False)
