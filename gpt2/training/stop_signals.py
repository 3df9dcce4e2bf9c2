"""SIGTERM and SIGINT: a checkpoint after the step, an end within a set time."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from gpt2.distributed.ranks import ALONE, Ranks

SECONDS = 25.0
"""From the signal to the end of the process; the runner kills after 30."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, SIGTERM and SIGINT ask for a checkpoint and an end.

    `number` is the one that came, to any rank, as of the last request; 0 so far.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks, self.number = ranks, 0
        self._received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self._received = number

    def requested(self) -> bool:
        """Whether one came, to any rank; every rank asks at the same time."""
        # One that comes during this exchange counts in the next one.
        self.number = self.ranks.maximum(self._received)
        return self.number != 0


class Deadline:
    """While entered, a stop signal ends the process after `seconds` at the latest.

    A step that compiles, a collective without its peers or a disk that hangs
    never reads a flag, and Python's handlers wait for the main thread. So a
    thread waits for the signal's number, which the C handler writes to a socket;
    when time is up it calls `out_of_time` with it and exits with 128 + number. The
    checkpoints before that stay as they are. To be entered under StopSignals, in
    the main thread.
    """

    def __init__(self, out_of_time: Callable[[int], None], seconds: float = SECONDS):
        self._out_of_time, self._seconds = out_of_time, seconds
        self._over = threading.Event()

    def __enter__(self) -> "Deadline":
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._before = signal.set_wakeup_fd(self._write.fileno())
        self._thread = threading.Thread(target=self._wait, name="stop", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        signal.set_wakeup_fd(self._before)
        self._write.close()
        self._thread.join()
        self._read.close()

    def _wait(self) -> None:
        while number := self._read.recv(1):
            if number[0] in SIGNALS and not self._over.wait(self._seconds):
                self._out_of_time(number[0])
                os._exit(128 + number[0])
