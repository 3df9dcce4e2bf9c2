"""Cells of several ranks: the command that starts them together.

gpt2/distributed/torchrun.py gives each process RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT, passes SIGTERM on, ends all when one ends, and returns the exit
status of the rank that ended first.
"""

from pathlib import Path
from typing import Sequence

PLACE = Path("distributed", "torchrun.py")
"""The launcher, from the entry point's folder, in the same snapshot of the code."""


def local(python: str, ranks: int, port: int | str, script: Sequence[str]) -> list[str]:
    """`ranks` processes of `script` on this machine, meeting at `port`."""
    return [
        *(python, _launcher(script)),
        *("--nnodes", "1", "--nproc-per-node", str(ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
        *script,
    ]


def rendezvous(nodes: int, ranks: int, script: Sequence[str]) -> list[str]:
    """The arguments of `python` on each of `nodes` nodes, `ranks` processes on each.

    The job's script sets RDZV_ENDPOINT (HOST:PORT of the first node) and RDZV_ID.
    """
    return [
        _launcher(script),
        *("--nnodes", str(nodes), "--nproc-per-node", str(ranks)),
        *("--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "$RDZV_ENDPOINT", "--rdzv-id", "$RDZV_ID"),
        *script,
    ]


def _launcher(script: Sequence[str]) -> str:
    return str(Path(script[0]).parent / PLACE)
