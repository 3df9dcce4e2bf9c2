"""A cell whose run is another study's: its directory holds a pointer, no copy.

reused.json: `run`, the run's directory relative to the cell's own; `changes`, the
identity symbols that this study's step sets; `time`.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

from records import atomic
from records.fields import REUSED
from records.layout import SCHEMA, CellDir, RecordError, read_record

NAME = "reused.json"


@dataclass(frozen=True)
class Place:
    """Where a cell's run lies; `changes` are None for its own directory."""

    dir: CellDir
    changes: tuple[str, ...] | None = None

    @property
    def reused(self) -> bool:
        """Whether it is another study's."""
        return self.changes is not None


def follow(own: CellDir) -> Place:
    """The cell's own directory, or where its pointer leads when it has no run.

    Raises RecordError for a damaged pointer, and when there is no finished run there
    any more.
    """
    path = own.path / NAME
    try:
        pointer = read_record(path, REUSED)
    except FileNotFoundError:
        return Place(own)
    except RecordError as error:
        raise RecordError(path, f"{error.why}: remove {own.path}") from None
    if os.path.exists(own.summary):
        return Place(own)
    there = CellDir(Path(os.path.normpath(own.path.resolve() / pointer["run"])))
    if not os.path.exists(there.summary):  # a path that cannot be is none, either
        raise RecordError(
            path,
            f"points to {there.path}, where no finished run is any more: bring it "
            f"back, or remove {own.path} to train the cell here",
        )
    return Place(there, tuple(pointer["changes"]))


def write(own: CellDir, run: CellDir, changes: Iterable[str]) -> None:
    """Write the pointer of a cell, unless it has one."""
    path = own.path / NAME
    if path.exists():
        return
    own.path.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(run.path.resolve(), own.path.resolve())
    record = {"run": target, "changes": list(changes), "time": time.time()}
    atomic.write_json(path, {"schema": SCHEMA, **record})
