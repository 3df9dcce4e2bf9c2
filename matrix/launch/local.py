"""Running a plan's cells, JOBS at a time, wherever its launcher puts them.

A cell that another process holds (a second `make`, or the child of a runner
that was killed) is waited for and never started twice: its lease decides. A
failure does not stop the others. A cell whose heartbeat stops is killed and
started again, CONFIG_WATCHDOG_RETRIES times. A first SIGINT or SIGTERM asks the children
for a checkpoint; a second one, or GRACE seconds, kills them.
"""

import signal
import time
from collections import deque
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from matrix.fleet.place import Slot
from matrix.launch import watchdog
from matrix.launch.child import Outcome, log_tail, stamp, write_failure
from matrix.launch.launcher import Launcher, Work
from matrix.plan.cells import Cell, Plan
from records.cell import DAMAGED, status_of
from records.layout import RecordError

POLL = 0.05
RECHECK = 0.5
"""Seconds between two looks at a cell that runs elsewhere."""
GRACE = 30.0
"""Seconds the children have for their checkpoints after a signal."""
LOG_LINES = 15


class Display(Protocol):
    """What the runner tells a person."""

    def started(self, cell: Cell, argv: list[str]) -> None:
        """A cell was started."""

    def waiting(self, cell: Cell, holder: str) -> None:
        """A cell runs elsewhere and is waited for."""

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        """A cell came to an end; `seconds` since its start here."""

    def log(self, cell: Cell, lines: list[str]) -> None:
        """The end of a failed cell's log."""

    def say(self, text: str) -> None:
        """A line for the person."""

    def refresh(self) -> None:
        """Called all the time."""

    def close(self) -> None:
        """Called once, at the end."""


@dataclass
class Runner:
    """Runs the pending cells of a plan; `run` returns the exit status."""

    plan: Plan
    launcher: Launcher
    display: Display
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _signal: int = 0
    _signals_seen: int = 0
    _signals_handled: int = 0
    _deadline: float = float("inf")
    _idle: bool = False

    def __post_init__(self) -> None:
        self._before = {cell.hash: stamp(cell.dir) for cell in self.plan.pending}
        self._watchdog = watchdog.Watchdog(self.plan.settings.watchdog_seconds)
        self._hangs: dict[str, int] = {}
        self._queue = deque(self.launcher.order(self.plan.pending))
        self._children: list[Work] = []
        self._waiting: dict[str, tuple[Cell, float]] = {}

    def run(self) -> int:
        """0 when every cell is done, 1 when one is not, 128 + n after signal n."""
        handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            while self._children or (self._open and not self._stopping):
                self._obey()
                self._collect()
                self._guard()
                if not self._stopping:
                    self._recheck()
                    self._fill()
                self.display.refresh()
                time.sleep(POLL)
        finally:
            if not self.launcher.outlives:
                for child in self._children:  # only after an error in this loop
                    child.terminate()
            self.display.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._signal:
            return 128 + self._signal
        bad = [o for o in self.outcomes.values() if o.kind != "done"]
        never = ("diverged", DAMAGED)
        left = [cell for cell in self.plan.cells if cell.state in never]
        undone = [cell for cell in left if cell.hash not in self.outcomes]
        return 1 if bad or undone or self._open else 0

    @property
    def _open(self) -> bool:
        return bool(self._queue or self._waiting)

    @property
    def _stopping(self) -> bool:
        return self._deadline < float("inf")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self._signals_seen += 1

    def _obey(self) -> None:
        """Act on signals that came, and on a grace that ran out."""
        late = time.monotonic() > self._deadline
        if self._signals_seen > self._signals_handled or late:
            again = self._stopping
            self._signals_handled = self._signals_seen
            if again:
                self.display.say("killing the cells that still run")
                for child in self._children:
                    child.kill()
                self._deadline = time.monotonic() + GRACE
            else:
                name = signal.Signals(self._signal).name
                if self.launcher.outlives:
                    return self._leave(name)
                self._stop(f"{name}: waiting for the checkpoints of running cells")

    def _leave(self, signal_name: str) -> None:
        """End, without what goes on by itself."""
        self._deadline = time.monotonic()
        left = self.launcher.farewell(self._children)
        self.display.say(f"{signal_name}: {left}")
        self._children.clear()

    def _stop(self, why: str) -> None:
        self._deadline = time.monotonic() + GRACE
        self.display.say(why)
        for child in self._children:
            child.terminate()

    def _collect(self) -> None:
        """Take note of the children that ended."""
        for child in list(self._children):
            outcome = child.outcome(self._stopping)
            if outcome is None:
                continue
            self._children.remove(child)
            if outcome.kind == "held":
                self._wait(child.cell, outcome.why)
            elif outcome.kind == "hung":
                self._restart(child.cell, outcome.why)
            else:
                self._ended(child.cell, outcome, time.monotonic() - child.began)

    def _guard(self) -> None:
        """End the children whose loop has stopped moving."""
        for child in self._children:
            if child.hung or not child.moving:
                self._watchdog.forget(child.cell.dir)
                continue
            seconds = self._watchdog.stalled_for(child.cell.dir)
            if seconds:
                child.hang(watchdog.describe(child.cell.dir, seconds))

    def _restart(self, cell: Cell, why: str) -> None:
        """A cell that hung gets another attempt, or fails for good; one that hung
        behind its summary is done.
        """
        if status_of(cell.dir, cell.hash).state == "done":
            return self._ended(cell, Outcome("done"), 0.0)
        self._hangs[cell.hash] = self._hangs.get(cell.hash, 0) + 1
        if self._hangs[cell.hash] > self.plan.settings.watchdog_retries:
            why += write_failure(cell.dir, None, why)
            self._ended(cell, Outcome("failed", why), 0.0)
            return
        self.display.say(f"{cell.name}: {why}; ended, starting again")
        self._queue.appendleft(cell)

    def _ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        self.outcomes[cell.hash] = outcome
        self.display.ended(cell, outcome, seconds)
        if outcome.kind != "failed":
            return
        self.display.log(cell, log_tail(cell.dir, LOG_LINES))
        if self.plan.settings.fail_fast and not self._stopping:
            self._stop("FAIL_FAST: stopping the other cells")

    def _wait(self, cell: Cell, holder: str) -> None:
        if cell.hash not in self._waiting:
            self.display.waiting(cell, holder)
        self._waiting[cell.hash] = (cell, time.monotonic() + RECHECK)

    def _recheck(self) -> None:
        """Look at the cells that run elsewhere."""
        for cell, due in list(self._waiting.values()):
            if time.monotonic() < due:
                continue
            holder = status_of(cell.dir, cell.hash).holder
            seconds = self._watchdog.stalled_for(cell.dir) if holder else None
            why = watchdog.describe(cell.dir, seconds) if seconds else ""
            killed = watchdog.kill_elsewhere(cell.dir, holder, why) if why else ""
            if killed:
                del self._waiting[cell.hash]
                self._restart(cell, killed)
            elif holder:
                self._wait(cell, str(holder))
            else:
                del self._waiting[cell.hash]
                self._queue.appendleft(cell)

    def _fill(self) -> None:
        """Start cells while there are slots; look at each one's state first."""
        while self._queue and len(self._children) < self.plan.jobs:
            try:
                work = self.launcher.adopt(self._queue[0])
            except RecordError as error:
                self._leave_alone(self._queue.popleft(), str(error))
                continue
            if work is not None:
                self._queue.popleft()
                self._follow(work, [])
                continue
            taken = self.launcher.take(self._queue, self.display.say)
            if taken is None:
                return self._say_idle()
            cell, slot = taken
            try:
                if not self._settled(cell):
                    self._start(cell, slot)
            finally:
                slot.release()  # the child has the leases, if there is one

    def _settled(self, cell: Cell) -> bool:
        """Whether a cell needs no start: done, running or failed elsewhere."""
        status = status_of(cell.dir, cell.hash)
        if status.state == DAMAGED:
            self._leave_alone(cell, status.reason)
        elif status.state == "done":
            self._ended(cell, Outcome("done", "elsewhere"), 0.0)
        elif status.state == "running":
            self._wait(cell, str(status.holder))
        elif status.failure and stamp(cell.dir) != self._before[cell.hash]:
            kind = "diverged" if status.state == "diverged" else "failed"
            why = f"elsewhere: {status.failure['error']}"
            self._ended(cell, Outcome(kind, why), 0.0)
        else:
            return False
        return True

    def _start(self, cell: Cell, slot: Slot) -> None:
        self._watchdog.forget(cell.dir)
        try:
            work, argv = self.launcher.start(cell, slot)
        except RecordError as error:
            self._leave_alone(cell, str(error))
            return
        except OSError as error:  # a full disk ends this cell, not the others
            self._ended(cell, Outcome("failed", f"cannot be started: {error}"), 0.0)
            return
        self._follow(work, argv)

    def _leave_alone(self, cell: Cell, why: str) -> None:
        """A cell with a damaged record is not started: nothing of it is overwritten."""
        self._ended(cell, Outcome(DAMAGED, why), 0.0)

    def _follow(self, work: Work, argv: list[str]) -> None:
        self._children.append(work)
        self.display.started(work.cell, argv)

    def _say_idle(self) -> None:
        """Once: why nothing starts although nothing of ours runs."""
        if not self._children and not self._idle:
            self._idle = True
            self.display.say("every GPU is taken: waiting for one (`make gpus`)")
