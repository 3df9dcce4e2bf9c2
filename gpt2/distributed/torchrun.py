#!/usr/bin/env python3
"""torchrun, with the exit status of the rank that ended the others.

torchrun.py --nproc-per-node 4 [torchrun's options] gpt2/train_ra_mla.py --run-dir …

On one host the ranks meet at 127.0.0.1, whatever address is asked for; at
--master-port, or at any free port. torchrun's own store listens on every interface,
and who reaches it can tell the ranks where to send what they unpickle. Over several
nodes it has to.

torchrun itself returns 1 for whatever a rank returns, so that a cell that was
stopped (143) or is held elsewhere (75) could not be told from one that failed.
SIGUSR1, which asks for stacks, is passed on: the ranks have sessions of their own,
where a signal to the group of this process does not reach them.
"""

import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torch.distributed import TCPStore, run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousInfo,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import (
    StaticTCPRendezvous,
)

LOOPBACK = "127.0.0.1"
BACKEND = "loopback"
USUAL_PORT = 29500
"""What torch takes where several hosts meet and none is asked for."""
PATIENCE = 600
"""Seconds that the store waits for an answer, torchrun's own figure."""


class Loopback(StaticTCPRendezvous):
    """The meeting of one host's ranks, at a store on a socket bound to LOOPBACK."""

    def get_backend(self) -> str:
        """The name under which torchrun asks for it."""
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """The store, opened by the first call, and where it is."""
        if self._store is None:
            listening = socket.create_server((LOOPBACK, self.master_port))
            self.master_port = listening.getsockname()[1]
            self._store = TCPStore(
                LOOPBACK,
                self.master_port,
                is_master=True,
                timeout=self.timeout,
                wait_for_workers=False,
                master_listen_fd=listening.detach(),  # the store closes it
            )
        return super().next_rendezvous()


def loopback(parameters: RendezvousParameters) -> Loopback:
    """At the port of the endpoint; port 0: at any free one."""
    port = int(parameters.endpoint.rpartition(":")[2])
    return Loopback(LOOPBACK, port, 0, 1, parameters.run_id, PATIENCE)


rendezvous_handler_registry.register(BACKEND, loopback)


def parsed(arguments: list[str]) -> Namespace:
    """torchrun's options. A port that nobody asked for is 0: torch 2.11 would take one
    and the same for every run of a host.
    """
    parser = run.get_args_parser()
    if parser.get_default("master_port") == USUAL_PORT:
        parser.set_defaults(master_port=None)
    return parser.parse_args(arguments)


def meet_here(options: Namespace) -> None:
    """Have ranks that are all on this host meet at LOOPBACK."""
    _, nodes = run.parse_min_max_nnodes(options.nnodes)
    if not options.standalone and nodes > 1:
        options.master_port = options.master_port or USUAL_PORT
        return
    options.standalone = False
    options.nnodes = "1"
    options.rdzv_backend = BACKEND
    options.rdzv_endpoint = f"{LOOPBACK}:{options.master_port or 0}"


def main(arguments: list[str]) -> int:
    """The first rank's status that is not 0; 128 + n for signal n."""
    signal.signal(signal.SIGUSR1, pass_on)
    options = parsed(arguments)
    meet_here(options)
    try:
        run.run(options)
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
        for pid in map(int, (thread / "children").read_text(encoding="ascii").split()):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(variable.startswith(b"LOCAL_RANK=") for variable in variables):
                yield pid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
