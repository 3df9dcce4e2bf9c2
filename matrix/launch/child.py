"""One running cell: its process, and what its end means.

The child has a session of its own, so the terminal's Ctrl-C does not reach it
and a dead runner does not end it.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from matrix.fleet.place import Slot
from matrix.launch import prepare, watchdog
from matrix.plan.cells import Cell
from records import atomic
from records.cell import DAMAGED, status_of
from records.layout import SCHEMA, CellDir

LEASE_HELD = 75
STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
STOP_SIGNALS = {-signal.SIGINT, -signal.SIGTERM}


@dataclass(frozen=True)
class Outcome:
    """How a cell's process ended, and why.

    done, failed, diverged, held (by another process), stopped (asked to), hung
    (killed by the watchdog), or damaged (a record that cannot be read).
    """

    kind: str
    why: str = ""


class Child:
    """A started cell."""

    def __init__(self, cell: Cell, argv: Sequence[str], cwd: Path, slot: Slot):
        self.cell, self._ranks = cell, slot.ranks
        self.began = time.monotonic()
        self.hung = ""
        self._failure = stamp(cell.dir)
        with open(cell.dir.train_log, "ab") as log, slot.bound():
            if slot.gpus:
                log.write(f"{slot.line()}\n".encode())
                log.flush()
            self.process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=slot.environment(prepare.environment(cell)),
                pass_fds=slot.descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def outcome(self, stopping: bool) -> Outcome | None:
        """None while it runs. A failure it did not record is recorded here."""
        code = self.process.poll()
        if code is None:
            return None
        status = status_of(self.cell.dir, self.cell.hash)
        if status.state == "done":
            return Outcome("done")
        if status.state == DAMAGED:
            return Outcome(DAMAGED, status.reason)
        if code == LEASE_HELD:
            return Outcome("held", str(status.holder or "another process"))
        if code in STOPPED or code in STOP_SIGNALS or (stopping and code < 0):
            return Outcome("stopped", status.reason)
        if self.hung:
            return Outcome("hung", self.hung)
        why = _describe(code)
        if stamp(self.cell.dir) != self._failure and status.failure is not None:
            if status.state == "diverged":
                return Outcome("diverged", status.failure["error"])
            return Outcome("failed", f"{why}: {status.failure['error']}")
        if status.holder is None:  # else a newer attempt is on its way
            why += write_failure(self.cell.dir, code, why)
        return Outcome("failed", why)

    @property
    def moving(self) -> bool:
        """A process moves from its start."""
        return True

    def terminate(self) -> None:
        """Ask for a checkpoint and an end."""
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the child and whatever it started."""
        if self.process.poll() is None:  # not reaped, so the group exists
            os.killpg(self.process.pid, signal.SIGKILL)
            if self._ranks > 1:
                watchdog.kill_all(self.cell.dir)

    def hang(self, why: str) -> None:
        """Its stacks, then its end."""
        self.hung = watchdog.note(self.cell.dir, why)
        watchdog.dump(self.cell.dir)
        self.kill()


def write_failure(cell: CellDir, code: int | None, error: str) -> str:
    """failure.json of the cell's latest attempt; says why when the disk refuses.

    Without the file the cell counts as interrupted, and runs again either way. A done
    cell gets none: what happened behind its summary is no failure.
    """
    status = status_of(cell)
    if status.state == "done":
        return ""
    if status.state == DAMAGED:
        return f" ({status.reason})"
    try:
        atomic.write_json(
            cell.failure,
            {
                "schema": SCHEMA,
                "attempt": sum(row["event"] == "start" for row in status.attempts),
                "status": "failed",
                "exit_code": code,
                "error": error,
                "time": time.time(),
            },
        )
    except OSError as refused:
        return f" (failure.json cannot be written: {refused})"
    return ""


def log_tail(cell: CellDir, lines: int) -> list[str]:
    """The last lines of train.log."""
    if not cell.train_log.exists():
        return []
    with open(cell.train_log, "rb") as log:
        log.seek(max(0, log.seek(0, 2) - 64 * 1024))
        text = log.read().decode("utf-8", "replace")
    return text.splitlines()[-lines:]


def _describe(code: int) -> str:
    if code == 0:
        return "exit status 0 without a summary"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code - 128 in set(signal.Signals):  # of a rank, as a shell says it
        return f"exit status {code} ({signal.Signals(code - 128).name})"
    return f"exit status {code}"


def stamp(cell: CellDir) -> tuple[int, int] | None:
    """Identity of failure.json: a rewritten file has another one."""
    try:
        info = cell.failure.stat()
    except FileNotFoundError:
        return None
    return info.st_mtime_ns, info.st_ino
