"""A process that has torch and pytest loaded, and forks one child per command.

Importing them takes longer than most catchers run. Nothing of ours is imported
before the fork, so that a child sees the source as it stands on disk.

In: JSON lines {arguments, environment, patience, output}; out: one line with the
exit status. arguments: as after `python`, "-m module …" or "file.py …".
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import datasets  # noqa: F401
import hypothesis.internal.conjecture.engine  # noqa: F401
import kconfiglib  # noqa: F401
import numpy  # noqa: F401
import pytest  # noqa: F401
import torch  # noqa: F401
import torch._dynamo  # noqa: F401
import torch._subclasses.fake_tensor  # noqa: F401
import torch.distributed  # noqa: F401


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
        print(_wait(child, asked["patience"]), flush=True)


def _wait(child: int, patience: float) -> int:
    """The exit status; 124, and the child killed, when it takes too long."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def _become(asked: dict) -> None:
    """Run the command in this forked process, and end."""
    os.setsid()
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    errors = os.open(asked["output"] + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.update(asked["environment"])
    status, words = 0, asked["arguments"]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
