"""Quantities per head that add up over windows.

Legend: B batch, T tokens, H heads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch


def ratio(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """A mean, from a sum and a number."""
    return total / count


class Statistic(NamedTuple):
    """sums: over the queries of a window, float64 (H,) each, or () of a whole layer;
    final: the quantity, of the sums over all windows.
    """

    sums: tuple[torch.Tensor, ...]
    final: Callable[..., torch.Tensor] = ratio


def per_head(x_BH: torch.Tensor) -> torch.Tensor:
    """Over everything but the heads, in float64: sum_H of (B, H, …)."""
    return x_BH.transpose(0, 1).flatten(1).sum(dim=1, dtype=torch.float64)


def mean(x_BH: torch.Tensor) -> Statistic:
    """The mean of every head's elements."""
    total_H = per_head(x_BH)
    return Statistic((total_H, torch.full_like(total_H, x_BH.numel() // len(total_H))))


def gate(factor_BHT: torch.Tensor, alpha: float) -> Statistic:
    """The mean of g, from factor = (1 - α) + αg."""
    (total_H, count_H), final = mean(factor_BHT)
    return Statistic((total_H - (1 - alpha) * count_H, alpha * count_H), final)
