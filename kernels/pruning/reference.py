"""Scores and the exact choice of the lowest, in plain torch.

Several matrices are one row of weights: the matrices in the order given, each in
row-major order; that order is the index that decides ties. A mask is True where
a weight is pruned. Everything is fp32: a score's bits, read as an integer whose
order is that of the scores, are counted in two passes of 16 bits each, so that
nothing of the size of all matrices is built or sorted.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

Source = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

EPS = 1e-8
"""ε of the criteria."""

# What scores lowest goes. w: the weight, m and v: its first and second moment;
# each formula evaluates in the order written, which the kernel repeats.
SCORES: dict[str, Score] = {
    "given": lambda s, m, v: s,
    "magnitude": lambda w, m, v: w.abs(),
    "hybrid": lambda w, m, v: (w * m).abs() * w.abs() / (v.sqrt() + EPS),
    "gradient_magnitude": lambda w, m, v: w.abs() * m.abs().sqrt(),
    "movement": lambda w, m, v: -w.sign() * m / (v.sqrt() + EPS),
    "coherence": lambda w, m, v: (
        w.abs() * m.abs().sqrt() * (m * m / (v + EPS)).sqrt()
    ),
    "variance": lambda w, m, v: w.abs() * v.sqrt().sqrt(),
}

HALF, BINS = 16, 2**16
NOT_RANKED = 2**31 - 1  # above the key of every number
INFINITY = 0x7F800000  # the key of +inf; -inf has -INFINITY - 1


def prune_lowest(
    criterion: str,
    sources: list[Source],
    masks: list[torch.Tensor],
    count: int,
    pattern: str = "unstructured",
    zeroed: Sequence[list[torch.Tensor]] = (),
) -> None:
    """Set `count` more entries of the masks: the live weights that score lowest.

    sources: (w, m, v) per matrix, fp32; what the criterion does not name may be
    anything. Live weights alone are ranked, over all matrices together, ties by
    index: exactly the first `count` of sorted((score, index)). With the pattern
    "2:4" of every four weights in a row two at most may be pruned, so only the
    lowest 2 − pruned live ones of each four are ranked. zeroed: lists of a tensor
    per matrix, of its shape, which become 0 where a weight is pruned now.
    Raises ValueError when fewer can be pruned, ArithmeticError for a live score
    that is not a number; the masks are then as before.
    """
    if count == 0:
        return
    score = SCORES[criterion]

    def keys() -> Iterator[torch.Tensor]:
        for (w, m, v), mask in zip(sources, masks, strict=True):
            yield ranked(ordered(score(w, m, v)), mask, pattern)

    threshold, left = _select(keys, count)
    for key, mask in zip(keys(), masks):
        ties = (key == threshold).flatten().nonzero().flatten()[:left]
        left -= len(ties)
        mask |= key < threshold
        mask.view(-1)[ties] = True
    for tensors in zeroed:
        zero(tensors, masks)


def ordered(score: torch.Tensor) -> torch.Tensor:
    """int32 keys in the order of fp32 scores; −0 is 0, NaN lies beyond ±inf.

    Raises TypeError for another dtype.
    """
    if score.dtype != torch.float32:
        raise TypeError(f"scores are fp32, not {score.dtype}")
    bits = (score + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def ranked(key: torch.Tensor, mask: torch.Tensor, pattern: str) -> torch.Tensor:
    """The keys, NOT_RANKED where a weight is pruned or must stay.

    Raises ArithmeticError for a live key that is no number.
    """
    wild = (key > INFINITY) | (key < -INFINITY - 1)
    if (wild & ~mask).any():
        raise ArithmeticError("a weight's score is not a number, nothing to rank")
    key = key.masked_fill(mask, NOT_RANKED)
    if pattern == "unstructured":
        return key
    fours, pruned = key.view(-1, 4), mask.view(-1, 4).sum(1, keepdim=True)
    place = fours.argsort(dim=1, stable=True).argsort(dim=1)
    return fours.masked_fill(place >= 2 - pruned, NOT_RANKED).view(key.shape)


def _select(keys: Callable[[], Iterator[torch.Tensor]], count: int) -> tuple[int, int]:
    """The count-th smallest key, and how many of the keys equal to it go."""
    high = torch.zeros(BINS, dtype=torch.int64)
    for key in keys():
        live = key[key != NOT_RANKED]
        high += torch.bincount((live >> HALF) + BINS // 2, minlength=BINS).cpu()
    if count > high.sum():
        raise ValueError(f"{count} weights to prune, {int(high.sum())} are live")
    upper, count = _descend(high, count)
    upper -= BINS // 2
    low = torch.zeros(BINS, dtype=torch.int64)
    for key in keys():
        part = key[(key >> HALF == upper) & (key != NOT_RANKED)]
        low += torch.bincount(part & (BINS - 1), minlength=BINS).cpu()
    lower, count = _descend(low, count)
    return upper * BINS + lower, count


def _descend(counts: torch.Tensor, count: int) -> tuple[int, int]:
    """The bin that holds the count-th smallest, and its place in that bin."""
    upto = counts.cumsum(0)
    bin = int((upto < count).sum())
    return bin, count - int(upto[bin] - counts[bin])


def zero(tensors: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    """Each tensor is 0 where its mask is True, in place."""
    for tensor, mask in zip(tensors, masks, strict=True):
        tensor.masked_fill_(mask, 0.0)
