"""The process that mirrors a study's cells into one tracker, beside their runs.

    python -m matrix.trackers.mirror TARGET_JSON

Commands come as lines of JSON, {"start": DIR} and {"end": DIR}; the end of the input
means that no more will come: what is open is finished and the process ends. Cells that
failed are told as lines {"failed": DIR, "error": text}. Nothing here can reach a
run: it reads files that others write, in a session and with a priority of its own.
"""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Callable

from matrix.trackers.session import Session
from matrix.trackers.target import Target, TrackerError

PERIOD = 1.0
"""Seconds between two looks at the files."""
NICE = 10
"""Added to the priority number: training comes first."""


class Mirror:
    """The open sessions; `run` ends when its input does."""

    def __init__(
        self,
        target: Target,
        failed: Callable[[Path, str], None],
        begin: Callable[[Path, Target], Session] = Session,
    ):
        self.target, self._failed, self._begin = target, failed, begin
        self.sessions: dict[Path, Session] = {}

    def run(self, commands: "queue.Queue[str | None]") -> None:
        """Obey the commands and mirror, until None comes."""
        while True:
            try:
                line = commands.get(timeout=PERIOD)
            except queue.Empty:
                self.poll()
                continue
            if line is None:
                break
            self.obey(json.loads(line))
        for path in list(self.sessions):
            self._end(path)

    def obey(self, command: dict[str, str]) -> None:
        """{"start": DIR} or {"end": DIR}."""
        if "start" in command:
            path = Path(command["start"])
            self._guard(path, lambda: self._start(path))
        else:
            self._end(Path(command["end"]))

    def poll(self) -> None:
        """New rows of every open session."""
        for path, session in list(self.sessions.items()):
            self._guard(path, session.poll)

    def _start(self, path: Path) -> None:
        """A cell that is started again (it hung) keeps its session."""
        if path not in self.sessions:
            self.sessions[path] = self._begin(path, self.target)

    def _end(self, path: Path) -> None:
        session = self.sessions.get(path)
        if session is not None:
            self._guard(path, session.end)
            self.sessions.pop(path, None)

    def _guard(self, path: Path, act: Callable[[], None]) -> None:
        """A cell that fails is told once and left alone; the others go on."""
        try:
            act()
        except TrackerError as error:
            self.sessions.pop(path, None)
            self._failed(path, str(error))


def listen(source: IO[str]) -> "queue.Queue[str | None]":
    """The lines of `source` as they come, then None."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in source:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="commands", daemon=True).start()
    return lines


def main(argv: list[str]) -> int:
    """Mirror what standard input names; tell on what was standard output."""
    os.nice(NICE)
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what a tracker prints is no answer

    def report_failure(path: Path, error: str) -> None:
        try:
            print(json.dumps({"failed": str(path), "error": error}), file=answers)
        except BrokenPipeError:  # the runner is gone; the state file says it
            return

    Mirror(Target(**json.loads(argv[0])), report_failure).run(listen(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
