#!/usr/bin/env python3
"""torchrun, with the exit status of the rank that ended the others.

torchrun.py --nproc-per-node 4 [torchrun's options] gpt2/train_ra_mla.py --run-dir …

torchrun itself returns 1 for whatever a rank returns, so that a cell that was
stopped (143) or is held elsewhere (75) could not be told from one that failed.
SIGUSR1, which asks for stacks, is passed on: the ranks have sessions of their own,
where a signal to the group of this process does not reach them.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main(arguments: list[str]) -> int:
    """The first rank's status that is not 0; 128 + n for signal n."""
    signal.signal(signal.SIGUSR1, pass_on)
    try:
        run.main(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        print(f"rank {rank} ended first, with {code}", file=sys.stderr)
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + error.sigval
    return 0


def pass_on(number: int, frame: FrameType | None) -> None:
    """The signal to every rank; one that is stopped is continued."""
    for pid in ranks():
        for each in (number, signal.SIGCONT):
            try:
                os.kill(pid, each)
            except ProcessLookupError:  # it ended by itself
                continue


def ranks() -> Iterator[int]:
    """The children of this process that run as ranks."""
    for thread in Path("/proc/self/task").iterdir():
        for pid in map(int, (thread / "children").read_text().split()):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(variable.startswith(b"LOCAL_RANK=") for variable in variables):
                yield pid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
