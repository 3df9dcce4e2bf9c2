"""Two ranks give the gradient of one process on the joined batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from gpt2.check.subject import Subject, require
from gpt2.distributed.ranks import leave
from gpt2.model.gpt import GPT

# In float64, relative to the largest gradient of the parameter; and relative
# to the largest of the model, for one that is zero but for rounding.
TOLERANCE = 1e-9
ROUNDING = 1e-14
PATIENCE = timedelta(seconds=60)


def two_ranks(subject: Subject, rank: int) -> None:
    """Each rank takes one sequence of a batch of two; the gradients that
    DistributedDataParallel averages are those of one process on both.

    Both ranks call this at the same time, in one process group of two; rank 0
    compares.
    """
    averaged = subject.build().double()
    rows = subject.tokens()[rank : rank + 1]
    wrapped = DistributedDataParallel(averaged)
    _loss(subject, wrapped, rows).backward()
    if rank > 0:
        return
    alone = subject.build().double()
    _loss(subject, alone, subject.tokens()).backward()
    largest = max(p.grad.abs().max() for p in alone.parameters())
    for (name, p), q in zip(averaged.named_parameters(), alone.parameters()):
        limit = TOLERANCE * q.grad.abs().max() + ROUNDING * largest
        error = (p.grad - q.grad).abs().max()
        require(
            bool(error <= limit),
            f"the gradient of {name} on two ranks differs from that of one process "
            f"by {error:.2e}, where it is at most {q.grad.abs().max():.2e}",
        )


def _loss(
    subject: Subject, model: GPT | DistributedDataParallel, rows_BT: torch.Tensor
) -> torch.Tensor:
    return model(*subject.halves(rows_BT))


@contextmanager
def joined(rank: int, store: str) -> Iterator[None]:
    """In the process group of two; store: a file both ranks name. Raises RuntimeError
    where the other does not come.
    """
    dist.init_process_group(
        "gloo", f"file://{store}", rank=rank, world_size=2, timeout=PATIENCE
    )
    try:
        yield
    finally:
        leave()
