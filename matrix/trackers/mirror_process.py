"""The runner's side of the mirrors: a process per tracker, none of which it waits for.

A mirror that fails, hangs or dies is said once and recorded in the run directories;
the runs never notice.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Mapping, Sequence

from matrix import units
from matrix.launch.child import Outcome
from matrix.launch.local import Display
from matrix.plan.cells import Cell, Plan
from matrix.trackers.session import CURRENT, FAILED, OPEN, note, state
from matrix.trackers.sink import targets
from matrix.trackers.target import Target, TrackerError, require_extra
from matrix.trackers.wandb_variables import without
from records.entry import UTF8
from records.layout import RecordError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "matrix.trackers.mirror")
PATIENCE = 3.0
"""Seconds of waiting that need no explanation."""
NOTED = ("id", "url", "rows", "tags")
"""What stays in a note when a mirror dies."""
HOW_TO_SEND = "`make sync` uploads what is missing"


class MirrorProcess:
    """One mirror process, its commands and its answers."""

    def __init__(self, target: Target, command: Sequence[str] = COMMAND):
        self.target = target
        self.failed: list[Path] = []
        self._open: set[Path] = set()
        self._commands: SimpleQueue[dict | None] = SimpleQueue()
        self._answers: SimpleQueue[dict] = SimpleQueue()
        self._over = False
        self.process = subprocess.Popen(
            [*command, json.dumps(asdict(target))],
            cwd=ROOT,
            env={**without(os.environ), **UTF8},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
        )
        for work in (self._write, self._read):
            threading.Thread(target=work, name=target.tracker, daemon=True).start()

    def start(self, path: Path) -> None:
        """Mirror the cell at `path` from now on."""
        self._open.add(path)
        self._commands.put({"start": str(path)})

    def end(self, path: Path) -> None:
        """The cell at `path` writes no more."""
        self._commands.put({"end": str(path)})

    def finish(self, path: Path) -> None:
        """A done cell: its last rows, where a mirror that was killed has left it open."""
        try:
            known = state(path, self.target.tracker)
        except RecordError as error:  # said like any other failure of a mirror
            self._answers.put({"failed": str(path), "error": str(error)})
            return
        if known.get("state") == OPEN:
            self.start(path)
            self.end(path)

    def news(self) -> list[str]:
        """What a person must hear: the first failure of a cell, the mirror's death."""
        lines = []
        while (answer := self._next()) is not None:
            path = Path(answer["failed"])
            self._open.discard(path)
            self.failed.append(path)
            if len(self.failed) == 1:
                lines.append(self._sentence(f"{answer['error']} ({path})"))
        code = self.process.poll()
        if code and not self._over:
            self._over = True
            lines.append(self._lost(f"the mirror ended with status {code}"))
        return lines

    def close(self) -> None:
        """No more cells: the mirror finishes what is open and ends."""
        self._commands.put(None)

    def busy(self, seconds: float) -> bool:
        """Whether it goes on for longer than this."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def settle(self, deadline: float) -> list[str]:
        """Wait for it until `deadline` (monotonic seconds), then end it."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._over = True
            lines = self.news()
            return [*lines, self._lost("the upload did not end in CONFIG_TRACKER_WAIT")]
        lines = self.news()
        if len(self.failed) > 1:
            count = units.plural(len(self.failed), "cell")
            lines.append(f"{self.target.tracker}: {count} not mirrored: {HOW_TO_SEND}")
        return lines + self._mirrored()

    def _mirrored(self) -> list[str]:
        """How many cells the tracker has of this `make`, and where."""
        notes = [self._state(path) for path in sorted(self._open)]
        sent = [each for each in notes if each.get("state") in (CURRENT, OPEN)]
        if not sent:
            return []
        url = sent[0]["url"] or "offline: `make sync` uploads"
        where = url.rpartition("/runs/")[0] or url
        count = units.plural(len(sent), "cell")
        return [f"{self.target.tracker}: {count} mirrored ({where})"]

    def _sentence(self, why: str) -> str:
        return f"{self.target.tracker}: {why}; the runs go on, {HOW_TO_SEND}"

    def _lost(self, why: str) -> str:
        for path in sorted(self._open):
            known = self._state(path)
            if known.get("state") != CURRENT:
                noted = {key: known[key] for key in NOTED if key in known}
                note(path, self.target, **noted, state=FAILED, error=why)
        return self._sentence(why)

    def _state(self, path: Path) -> dict:
        """What the mirror noted of a cell; nothing where that cannot be read."""
        try:
            return state(path, self.target.tracker)
        except RecordError:  # `make sync` says so, cell by cell
            return {}

    def _next(self) -> dict | None:
        try:
            return self._answers.get_nowait()
        except Empty:
            return None

    def _write(self) -> None:
        """Commands to the process; one that does not read keeps only this thread."""
        try:
            while (command := self._commands.get()) is not None:
                self.process.stdin.write(json.dumps(command) + "\n")
                self.process.stdin.flush()
            self.process.stdin.close()
        except OSError:  # it died: `news` says so
            return

    def _read(self) -> None:
        for line in self.process.stdout:
            self._answers.put(json.loads(line))


class MirroredDisplay:
    """A Display whose cells are mirrored; everything is shown by the one it wraps."""

    def __init__(self, shown: Display, targets: Sequence[Target], wait: float):
        self._shown, self._wait = shown, wait
        self._mirrors = [MirrorProcess(target) for target in targets]
        self._started: set[str] = set()

    def __getattr__(self, name: str):
        return getattr(self._shown, name)

    def finish(self, plan: Plan) -> None:
        """What was left open of the plan's done cells."""
        for cell in plan.cells:
            for mirror in self._mirrors:
                if cell.state == "done" and not cell.reused:
                    mirror.finish(cell.dir.path)

    def started(self, cell: Cell, argv: list[str]) -> None:
        """See Display."""
        self._started.add(cell.hash)
        for mirror in self._mirrors:
            mirror.start(cell.dir.path)
        self._shown.started(cell, argv)

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        """See Display."""
        for mirror in self._mirrors:
            if cell.hash in self._started:
                mirror.end(cell.dir.path)
            elif outcome.kind == "done":  # elsewhere, and its mirror may be gone
                mirror.finish(cell.dir.path)
        self._shown.ended(cell, outcome, seconds)

    def refresh(self) -> None:
        """See Display; also says what the mirrors complain about."""
        self._say([line for mirror in self._mirrors for line in mirror.news()])
        self._shown.refresh()

    def close(self) -> None:
        """See Display; the mirrors have CONFIG_TRACKER_WAIT seconds to finish."""
        for mirror in self._mirrors:
            mirror.close()
        deadline = time.monotonic() + self._wait
        if any(mirror.busy(PATIENCE) for mirror in self._mirrors):
            self._shown.say(
                f"trackers: sending the last rows, {self._wait:.0f} s at most"
            )
        for mirror in self._mirrors:
            self._say(mirror.settle(deadline))
        self._shown.close()

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._shown.say(line)


def mirrored(plan: Plan, shown: Display, environment: Mapping[str, str]) -> Display:
    """The display, with the configured trackers beside the cells it shows.

    Done cells of the plan whose mirror was killed are finished. Where no cell is to be
    started and none was left open nothing is mirrored, which is said, and no tracker
    need be installed. Raises TrackerError for a tracker that cells need and whose extra
    is not installed.
    """
    wanted, _ = targets(plan.settings, environment)
    needed = []
    for target in wanted:
        if not plan.pending and not _left_open(plan, target):
            shown.say(
                f"{target.tracker}: no cell is to be run, none is mirrored: `make sync` "
                "sends what is missing"
            )
            continue
        try:
            require_extra(target.tracker)
            needed.append(target)
        except TrackerError as error:
            if plan.pending:
                raise
            shown.say(f"{target.tracker}: mirrors were left open, and {error}")
    if not needed:
        return shown
    found = MirroredDisplay(shown, needed, plan.settings.tracker_wait)
    found.finish(plan)
    return found


def _left_open(plan: Plan, target: Target) -> bool:
    """Whether a mirror of a done cell was killed, or its note cannot be read."""
    for cell in plan.cells:
        if cell.state != "done" or cell.reused:
            continue
        try:
            if state(cell.dir.path, target.tracker).get("state") == OPEN:
                return True
        except RecordError:  # MirrorProcess.finish says so
            return True
    return False
