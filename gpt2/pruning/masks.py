"""Exact masks: which weights go next.

A mask is True where a weight is pruned. Several matrices are one row of
weights: the matrices in the order given, each in row-major order; that order
is the index that decides ties. N: weights of all matrices that are live.
"""

import torch


def prune_lowest(
    scores: list[torch.Tensor], masks: list[torch.Tensor], count: int
) -> None:
    """Set `count` more entries of the masks: the live weights that score lowest.

    Live weights alone are ranked, over all matrices together, ties by index:
    exactly the first `count` of sorted((score, index)). The threshold is the
    count-th smallest score, selected without a full sort.
    Raises ValueError when so many are not live, ArithmeticError for a score
    that is not a number.
    """
    if count == 0:
        return
    live = [~mask for mask in masks]
    scores_N = torch.cat([score[alive] for score, alive in zip(scores, live)])
    if count > len(scores_N):
        raise ValueError(f"{count} weights to prune, {len(scores_N)} are live")
    chosen_N = lowest(scores_N, count)
    parts = chosen_N.split([int(alive.sum()) for alive in live])
    for mask, alive, part in zip(masks, live, parts):
        mask.masked_scatter_(alive, part)


def lowest(scores_N: torch.Tensor, count: int) -> torch.Tensor:
    """True at the `count` smallest scores, the first of equal ones; bool_N."""
    if scores_N.isnan().any():
        raise ArithmeticError("a weight's score is not a number, nothing to rank")
    threshold = scores_N.kthvalue(count).values
    chosen_N = scores_N < threshold
    ties = (scores_N == threshold).nonzero().flatten()
    chosen_N[ties[: count - int(chosen_N.sum())]] = True
    return chosen_N
