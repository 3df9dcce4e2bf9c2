"""kill -USR1 PID: the stacks of all threads go to a file, the run goes on."""

import faulthandler
import signal
from pathlib import Path


def on_request(path: Path) -> None:
    """From now on SIGUSR1 appends the stacks of all threads to the file `path`.

    The dump is written by the signal handler itself, in C, so that a process that
    hangs inside a library call, or was stopped, still says where.
    """
    file = open(path, "a", encoding="utf-8")  # as long as the process: its fd is used
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)
