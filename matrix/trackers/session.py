"""Mirroring one cell into one tracker, from wherever an earlier mirror stopped."""

import fcntl
import os
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from matrix.trackers.content import describe
from matrix.trackers.row_order import FOLDER, NumberedRows
from matrix.trackers.sink import make_sink, scrub
from matrix.trackers.target import Sink, Target, TrackerError
from records import atomic
from records.fields import COUNT
from records.kinds import choice, fields, listed, name, nullable, text
from records.layout import SCHEMA, CellDir, RecordError, read_record

CURRENT, OPEN, FAILED = "current", "open", "failed"
EVERY = 10.0
"""Seconds between two notes of how far the mirror is."""


STATE = fields(
    {},
    {
        "state": choice(CURRENT, OPEN, FAILED),
        "id": nullable(name),
        "url": nullable(name),
        "rows": COUNT,
        "tags": listed(name),
        "error": nullable(text),
        "by": fields({}, {}, text),
    },
)


def state_path(cell: Path, tracker: str) -> Path:
    """Where a mirror notes what it did: CELL/mirror/TRACKER.json."""
    return cell / FOLDER / f"{tracker}.json"


def state(cell: Path, tracker: str) -> dict[str, Any]:
    """What the last mirror noted; {} when there was none. Raises RecordError."""
    try:
        return read_record(state_path(cell, tracker), STATE)
    except FileNotFoundError:
        return {}


def note(cell: Path, target: Target, **found: Any) -> None:
    """Write what a mirror did, without credentials."""
    path = state_path(cell, target.tracker)
    path.parent.mkdir(exist_ok=True)
    record = {"schema": SCHEMA, **vars(target), "time": time.time(), **found}
    if record.get("error"):
        record["error"] = scrub(record["error"])
    atomic.write_json(path, record)


class Session:
    """A cell on its way to a tracker.

    `poll` sends what is new, `end` sends the rest and closes. Both raise TrackerError
    after they noted the failure; the session is over then.
    """

    def __init__(
        self,
        path: Path,
        target: Target,
        tags: Sequence[str] = (),
        live: bool = True,
        make: Callable[[Target], Sink] = make_sink,
    ):
        self.path, self.target, self.tags, self.live = path, target, tags, live
        self._make = make
        self._cell = CellDir(path)
        self._lock = -1
        self._numbered: NumberedRows | None = None
        self._sink: Sink | None = None
        self._id: str | None = None
        self._known = 0
        self._noted = 0.0

    @property
    def rows(self) -> int:
        """Rows that the tracker was given, in this session or before."""
        return max(self._numbered.taken if self._numbered else 0, self._known)

    def poll(self) -> None:
        """Open the run once the cell has begun, then send the new rows."""
        self._guarded(self._send)

    def end(self) -> None:
        """Send what is left and close the run."""
        self._guarded(self._finish)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (TrackerError, RecordError, OSError) as error:
            self._note(FAILED, str(error))
            self._unlock()
            raise TrackerError(scrub(str(error))) from error

    def _send(self, ended: bool = False) -> None:
        if self._sink is None and not self._open():
            return
        rows = [row for row in self._numbered.poll(ended) if row[0] >= self._known]
        if rows:
            self._sink.put(rows)
        if time.monotonic() - self._noted > EVERY:
            self._note(OPEN)

    def _open(self) -> bool:
        about = describe(self.path)
        if about is None or not self._locked():
            return False
        self._numbered = NumberedRows(self._cell, self.target.tracker)
        self._id, sink = about.id, self._make(self.target)
        directory = self.path / FOLDER
        self._known = sink.open(about, self.tags, directory, self.live)
        self._sink = sink
        return True

    def _finish(self) -> None:
        self._send(ended=True)
        if self._sink is None:
            self._require_free()
            return  # the cell ended before its model was built
        done = self._cell.summary.exists()
        self._sink.close(done)
        self._note(CURRENT if done else OPEN)
        self._unlock()

    def _locked(self) -> bool:
        """Whether this session may mirror: no other process does."""
        folder = self.path / FOLDER
        folder.mkdir(exist_ok=True)
        lock = folder / f"{self.target.tracker}.lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _require_free(self) -> None:
        if describe(self.path) is not None:
            raise TrackerError("another process mirrors this cell")

    def _note(self, state: str, error: str | None = None) -> None:
        self._noted = time.monotonic()
        url = self._sink.url if self._sink else None
        note(
            self.path,
            self.target,
            id=self._id,
            url=url,
            state=state,
            rows=self.rows,
            tags=list(self.tags),
            error=error,
        )
