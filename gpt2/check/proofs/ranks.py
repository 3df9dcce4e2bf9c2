"""Two ranks have the gradient of one process, and see it when they differ."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from gpt2.check.subject import Subject, require
from gpt2.distributed.build import chosen
from gpt2.distributed.distribution import Distribution, RanksDiffer
from gpt2.distributed.ranks import Ranks, leave

WORLD = 2
MICRO_BATCHES = 2  # of one sequence, on each rank
# In float64, relative to the largest gradient of the parameter; and relative
# to the largest of the model, for one that is zero but for rounding.
TOLERANCE = 1e-9
ROUNDING = 1e-14
PATIENCE = timedelta(seconds=60)


def two_ranks(subject: Subject, rank: int) -> None:
    """Each rank takes half of a batch in two micro-batches, through the Distribution
    that trains this step; gradients and their norm are those of one process on the
    whole batch. Then a weight of one rank is changed, and both have to notice.

    Both ranks call this at the same time, in one process group of two; rank 0
    compares.
    """
    share = chosen(subject.settings)
    model = subject.build().double()
    shared = share(model, Ranks(rank, rank, WORLD), "fp32")
    rows = subject.tokens(WORLD * MICRO_BATCHES)
    for number in range(MICRO_BATCHES):
        last = number == MICRO_BATCHES - 1
        with shared.micro_batch(last, shared.weights.collect):
            own = rows[number * WORLD + rank :][:1]
            (_loss(subject, shared.forward, own) / MICRO_BATCHES).backward()
    parameters = list(shared.model.parameters())
    norm = shared.gradient_norm(parameters)
    gradients = {n: p.grad for n, p in shared.model.named_parameters()}
    noticed = _notices_a_difference(shared, rank)
    if rank > 0:
        return
    alone = subject.build().double()
    _loss(subject, alone, rows).backward()
    wanted = {name: p.grad for name, p in alone.named_parameters()}
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in gradients.items():
        limit = TOLERANCE * wanted[name].abs().max() + ROUNDING * largest
        error = (gradient - wanted[name]).abs().max()
        require(
            bool(error <= limit),
            f"the gradient of {name} on two ranks differs from that of one process "
            f"by {error:.2e}, where it is at most {wanted[name].abs().max():.2e}",
        )
    whole = torch.stack([gradient.norm() for gradient in wanted.values()]).norm()
    require(
        bool((norm - whole).abs() <= TOLERANCE * whole),
        f"the norm of the gradient on two ranks is {norm:.9g}, {whole:.9g} in one "
        "process",
    )
    require(noticed, "a weight that differs between two ranks goes unnoticed")


@torch.no_grad()
def _notices_a_difference(shared: Distribution, rank: int) -> bool:
    """Whether a weight that rank 1 alone changes, by a little, is one too many; equal
    weights are not. Raises RanksDiffer where those are.
    """
    shared.require_same(None, 0)
    if rank > 0:
        next(shared.model.parameters()).view(-1)[0] += 1e-9
    try:
        shared.require_same(None, 1)
    except RanksDiffer:
        return True
    return False


def _loss(
    subject: Subject, forward: Callable[..., torch.Tensor], rows_BT: torch.Tensor
) -> torch.Tensor:
    return forward(*subject.halves(rows_BT))


@contextmanager
def joined(rank: int, store: str) -> Iterator[None]:
    """In the process group of two; store: a file both ranks name. Raises RuntimeError
    where the other does not come.
    """
    dist.init_process_group(
        "gloo", f"file://{store}", rank=rank, world_size=WORLD, timeout=PATIENCE
    )
    try:
        yield
    finally:
        leave()
