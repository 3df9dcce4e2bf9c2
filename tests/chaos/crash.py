"""Cells that die, or whose disk is full, at the n-th change they make to the disk,
counted from the end of its training on.

    python -m tests.chaos.crash DATA_DIR     jobs as JSON on standard input

A job is {"directory", "fault": "kill" | "full" | null, "point": n}. Each runs in a
process forked from this one, which has imported everything and computed nothing.
Out: for each job {"status", "changes"}, the changes up to the fault in words.
"""

import errno
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch._dynamo  # noqa: F401
import torch._subclasses.fake_tensor  # noqa: F401
import torch.distributed  # noqa: F401

import gpt2.training.cell

FIRST = "flush metrics.jsonl"
"""What a run does when its training is over."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
HEX = re.compile(r"\.[0-9a-f]{8}\.tmp$")


class Disk:
    """What the main thread changes below a directory from FIRST on, counted and named.

    At change number `point` the process is killed before it happens, or the change
    fails with ENOSPC, once.
    """

    def __init__(self, directory: Path, fault: str | None, point: int, log: Path):
        self.root, self.fault, self.point = str(directory), fault, point
        self.count = 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write, self._fsync = os.write, os.fsync

    def watch(self) -> None:
        """From now on, for the rest of the process."""
        sys.addaudithook(self._audit)
        os.write = self._wrapped("write", self._write)
        os.fsync = self._wrapped("flush", self._fsync)
        sys.stdout = _Log(self, sys.stdout)

    def change(self, what: str) -> None:
        """A change is about to happen."""
        if threading.current_thread() is not threading.main_thread():
            return
        what = HEX.sub(".HEX.tmp", what)
        if not self.count and what != FIRST:
            return
        place, self.count = self.count, self.count + 1
        self._write(self._log, f"{what}\n".encode())
        if place != self.point:
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)

    def _audit(self, event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.fsdecode(args[0])
            if path.startswith(self.root) and args[2] & WRITES:
                self.change(f"open {self._name(path)}")
        elif event in EVENTS:
            path = args[1] if event == "os.rename" else args[0]
            if isinstance(path, int):
                path = self._of(path)
            if os.fsdecode(path).startswith(self.root):
                self.change(f"{event[3:]} {self._name(os.fsdecode(path))}")

    def _wrapped(self, verb: str, act: Callable) -> Callable:
        def changed(descriptor: int, *rest: bytes) -> int | None:
            path = self._of(descriptor)
            if path.startswith(self.root):
                self.change(f"{verb} {self._name(path)}")
            return act(descriptor, *rest)

        return changed

    def _of(self, descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self.root)


class _Log:
    """Standard output, which is train.log: it can be full as well."""

    def __init__(self, disk: Disk, stream):
        self._disk, self._stream = disk, stream

    def write(self, text: str) -> int:
        """One print is one write of its text and one of its end."""
        if text != "\n":
            self._disk.change("print")
        return self._stream.write(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def attempt(job: dict, data: Path) -> dict:
    """Train the job's cell in a process of its own."""
    directory = Path(job["directory"])
    log = directory.with_name(directory.name + ".changes")
    child = os.fork()
    if child == 0:
        output = os.open(
            directory / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )
        os.dup2(output, 1)
        os.dup2(output, 2)
        Disk(directory, job["fault"], job["point"], log).watch()
        os._exit(gpt2.training.cell.execute(directory, data))
    _, status = os.waitpid(child, 0)
    changes = log.read_text().splitlines()
    log.unlink()
    return {"status": os.waitstatus_to_exitcode(status), "changes": changes}


def main() -> None:
    """Serve the jobs in turn."""
    data = Path(sys.argv[1])
    print(json.dumps([attempt(job, data) for job in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
