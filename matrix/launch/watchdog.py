"""Cells whose loop has stopped moving: their stacks are kept, then they are killed.

What counts is that the heartbeat file changes, by a clock that nobody sets: a
time in a row would make a corrected clock look like a hang.
"""

import os
import signal
import socket
import time
from pathlib import Path

from records import heartbeat
from records.layout import CellDir, RecordError
from records.lease import Holder

DUMP = 5.0
"""Seconds a process has for writing its stacks."""


class Watchdog:
    """How long the cells' heartbeats have been still; `limit` 0 never complains."""

    def __init__(self, limit: float):
        self.limit = limit
        self._seen: dict[Path, tuple[object, float]] = {}

    def stalled_for(self, cell: CellDir) -> float | None:
        """Seconds since the heartbeat moved, once they exceed the limit.

        They count from the first call for this cell at the earliest. After an
        answer they count anew.
        """
        now, mark = time.monotonic(), _mark(cell.progress())
        before, since = self._seen.get(cell.path, (None, now))
        if cell.path not in self._seen or mark != before:
            self._seen[cell.path] = mark, now
            return None
        if not self.limit or now - since < self.limit:
            return None
        del self._seen[cell.path]
        return now - since

    def forget(self, cell: CellDir) -> None:
        """The cell is started anew."""
        self._seen.pop(cell.path, None)


def describe(cell: CellDir, seconds: float) -> str:
    """Where a cell was when its heartbeat stopped, `seconds` ago."""
    try:
        row = heartbeat.newest(cell.progress()) or {}
        where = (
            f"{row['phase']} at step {row['step']}" if row else "before its first beat"
        )
    except RecordError as error:
        where = str(error)
    return (
        f"no heartbeat for {seconds:.0f} s (CONFIG_WATCHDOG_SECONDS), {where}; "
        f"the stacks are in {cell.stacks}"
    )


def dump(cell: CellDir) -> list[int]:
    """Have the cell's processes on this host add their stacks to stacks.txt.

    Returns their pids. A stopped process is continued, its handler runs first. A
    process that answers to nothing adds none.
    """
    pids = [pid for pid in _pids(cell) if _trains(pid, cell)]
    before = _size(cell.stacks)
    for pid in pids:
        _send(pid, signal.SIGUSR1)
        _send(pid, signal.SIGCONT)
    deadline, size = time.monotonic() + DUMP, before
    while pids and time.monotonic() < deadline:
        time.sleep(0.2)
        size, last = _size(cell.stacks), size
        if size == last > before:  # written, and nothing more comes
            break
    return pids


def note(cell: CellDir, why: str) -> str:
    """`why`, noted above the stacks to come and in the log.

    With the reason added when the disk refuses it, which may be why a cell hangs.
    """
    line = f"watchdog, {time.strftime('%F %T %z')}: {why}\n"
    for path, lead in ((cell.stacks, "\n"), (cell.train_log, "")):
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(lead + line)
        except OSError as refused:
            why += f" ({path.name} cannot be written: {refused})"
    return why


def kill_elsewhere(cell: CellDir, holder: Holder, why: str) -> str:
    """Kill a cell on this host whose runner is gone; "" when it is not here.

    Returns the note that was left.
    """
    if holder.host != socket.gethostname():
        return ""
    why = note(cell, why)
    for pid in {*dump(cell), holder.pid}:
        if _trains(pid, cell):
            _send(pid, signal.SIGKILL)
    return why


def kill_all(cell: CellDir) -> None:
    """Kill every process of this host that trains the cell.

    The ranks of a cell are no process group: torchrun gives each a session.
    """
    for path in Path("/proc").glob("[0-9]*"):
        if _trains(int(path.name), cell):
            _send(int(path.name), signal.SIGKILL)


def _pids(cell: CellDir) -> list[int]:
    """The processes that the heartbeats of all ranks name."""
    found = []
    for path in sorted(cell.path.glob(cell.progress(0).name.replace("0", "*"))):
        try:
            row = heartbeat.newest(path)
        except RecordError:  # names nobody; the lease names rank 0
            continue
        found += [row["pid"]] if row else []
    return found


def _trains(pid: int, cell: CellDir) -> bool:
    """Whether the process trains this cell: numbers of processes come again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return str(cell.path).encode() in command.split(b"\0")


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mark(path: Path) -> object:
    """What changes whenever a row is added or the file is cut."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return info.st_size, info.st_mtime_ns, info.st_ino
