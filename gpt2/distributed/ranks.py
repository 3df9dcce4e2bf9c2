"""The processes that train one cell together, and what they exchange.

torchrun starts them (gpt2/distributed/torchrun.py). Who a process is, is read once, at the
entry point, and handed on as a value. Every rank runs the same loop on its own
batches; rank 0 alone holds the lease, writes records and decides by its clock.
docs/distributed.md says what is summed, in which type, and when.
"""

import gc
import hashlib
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Before there is a group: the functions of this module, which DDP imports in passing,
# keep the group of that moment as a default.
import torch.distributed.nn.functional
from torch.distributed.rendezvous import rendezvous

from kconf.bind import SettingsError

# The interface on which ranks of one machine meet, and nobody else: both libraries
# listen on one that other machines reach unless they are told.
INTERFACES = {"linux": "lo", "darwin": "lo0"}
LOOPBACK = {
    name: INTERFACES[sys.platform]
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    if sys.platform in INTERFACES
}
# What gloo says of a lost or late peer; it raises no class of its own.
GLOO = ("gloo", "pair closure", "closed by peer", "reset by peer", "Timed out")
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILURE = "kablate/failed"


class RanksError(RuntimeError):
    """The ranks cannot go on together; the message names who and why."""


@dataclass(frozen=True)
class Ranks:
    """Who this process is among those of its cell.

    rank: 0 … world-1, over all hosts; local_rank: over those of this host, which
    is the number of its GPU. store: the key-value store all ranks share, None in
    a cell of one process. patience: seconds that a rank waits for the others.

    `gather`, `broadcast`, `maximum`, `sum_` and `barrier` are collective: every rank
    calls them in the same order.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    store: dist.Store | None = None
    patience: int = 0

    @property
    def main(self) -> bool:
        """Whether this rank keeps the records."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return self.world == 1

    def require(self, wanted: int) -> None:
        """Raise SettingsError unless CONFIG_GPUS_PER_RUN is the number of ranks."""
        if wanted != self.world:
            raise SettingsError(
                "GPUS_PER_RUN",
                wanted,
                f"but the cell was started as {self.world}: make starts it as "
                f"configured, gpt2/distributed/torchrun.py --nproc-per-node {wanted} by hand",
            )

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in their order; anything that can be pickled."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, number: float) -> float:
        """Rank 0's number, whatever the others bring."""
        if self.alone:
            return number
        number_1 = torch.tensor([number], dtype=torch.float64)
        dist.broadcast(number_1, 0)
        return number_1.item()

    def maximum(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.alone:
            return number
        number_1 = torch.tensor([number], dtype=torch.int64)
        dist.all_reduce(number_1, dist.ReduceOp.MAX)
        return int(number_1)

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, in place, on the tensor's device."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Until every rank is here."""
        self.maximum(0)

    def report_failure(self, error: BaseException) -> None:
        """Leave, for rank 0's record, why this rank ends."""
        if self.store is not None and not isinstance(error, RanksError):
            why = f"rank {self.rank} on {socket.gethostname()}: "
            self.store.set(FAILURE, f"{why}{type(error).__name__}: {error}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What the network says of a lost or late rank, as a RanksError."""
        try:
            yield
        except RuntimeError as error:
            if self.alone or not _of_the_network(error):
                raise
            raise RanksError(self._explain(error)) from error

    def _explain(self, error: RuntimeError) -> str:
        message = str(error).splitlines()[0]
        if "timed out" in message.lower() or "timeout" in message.lower():
            return (
                f"rank {self.rank} of {self.world} waited {self.patience} s for the "
                f"others (CONFIG_RANK_TIMEOUT): {message}"
            )
        with_cause = self.store is not None and self.store.check([FAILURE])
        cause = self.store.get(FAILURE).decode() if with_cause else message
        return f"rank {self.rank} of {self.world} lost another one: {cause}"


ALONE = Ranks()
"""A cell of one process."""


class Unrecorded:
    """Stands for lease, heartbeat and records on a rank that keeps none."""

    def append(self, row: dict[str, Any]) -> None:
        """Write nothing."""

    def sync(self) -> None:
        """Nothing is there to flush."""

    def beat(self, step: int, phase: str = "", loss: float | None = None) -> None:
        """Rank 0 says that the cell lives."""

    def __enter__(self) -> "Unrecorded":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is there to close."""


def dropout_seed(seed: int, rank: int) -> int:
    """What a rank's generators start from: dropout is the only draw of the loop.

    Rank 0 takes the run's seed, as a cell of one process does; rank r the first 8
    bytes, little-endian, of sha256("dropout:SEED:r"), without the highest bit.
    """
    if rank == 0:
        return seed
    digest = hashlib.sha256(f"dropout:{seed}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % 2**63


def from_environment(environment: Mapping[str, str]) -> Ranks:
    """Who torchrun says this process is; ALONE when torchrun did not start it.

    Raises RanksError for an environment that is torchrun's only in part.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ALONE
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise RanksError(f"torchrun's environment lacks {', '.join(missing)}")
    rank, local_rank, world = (int(environment[name]) for name in VARIABLES[:3])
    return Ranks(rank, local_rank, world)


def interface(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to set before ranks meet that are all on this host; what is set stays."""
    here, everywhere = map(environment.get, ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if here != everywhere:
        return {}
    return {k: v for k, v in LOOPBACK.items() if not environment.get(k)}


@contextmanager
def joined(ranks: Ranks, device: str, patience: int) -> Iterator[Ranks]:
    """In the process group of the ranks: gloo between processors and, where device
    ("auto", "cpu", "cuda") can be a GPU, NCCL (on ROCm RCCL) between those. A cell
    of one process joins nothing.

    patience: seconds that a rank waits for the others, here and later. Raises
    RanksError when they do not come.
    """
    if ranks.alone:
        yield ranks
        return
    limit = timedelta(seconds=patience)
    gpus = device != "cpu" and torch.cuda.is_available()
    try:
        store, _, _ = next(rendezvous("env://", timeout=limit))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=dist.PrefixStore("kablate", store),
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=limit,
        )
    except (dist.DistError, RuntimeError) as error:
        raise RanksError(
            f"rank {ranks.rank} of {ranks.world} did not meet the others within "
            f"{patience} s (CONFIG_RANK_TIMEOUT): {error}"
        ) from error
    try:
        yield replace(ranks, store=store, patience=patience)
    finally:
        leave()


def leave() -> None:
    """Leave the process group, whose threads end here. One that lets go of a gradient
    while Python ends wants an interpreter that is gone, and aborts the process.
    """
    gc.collect()  # DDP keeps the group
    dist.destroy_process_group()


def _of_the_network(error: RuntimeError) -> bool:
    """Whether a collective failed; gloo raises plain RuntimeErrors."""
    by_gloo = any(words in str(error) for words in GLOO)
    return isinstance(error, dist.DistError) or by_gloo
