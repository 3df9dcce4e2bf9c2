"""Cells of several ranks: the command that starts them together.

torchrun gives each process RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT, passes SIGTERM on, and ends all when one ends.
"""

from typing import Sequence

MODULE = "torch.distributed.run"


def local(python: str, ranks: int, port: int | str, script: Sequence[str]) -> list[str]:
    """`ranks` processes of `script` on this machine, meeting at `port`."""
    return [
        *(python, "-m", MODULE),
        *("--nnodes", "1", "--nproc-per-node", str(ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
        *script,
    ]


def rendezvous(nodes: int, ranks: int, script: Sequence[str]) -> list[str]:
    """The arguments of `python` on each of `nodes` nodes, `ranks` processes on each.

    The job's script sets RDZV_ENDPOINT (HOST:PORT of the first node) and RDZV_ID.
    """
    return [
        *("-m", MODULE),
        *("--nnodes", str(nodes), "--nproc-per-node", str(ranks)),
        *("--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "$RDZV_ENDPOINT", "--rdzv-id", "$RDZV_ID"),
        *script,
    ]
