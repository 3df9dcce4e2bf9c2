"""Magnitude: a weight is worth its absolute value."""

import torch


def magnitude(weight: torch.Tensor) -> torch.Tensor:
    """|w|, the shape of the weight (1506.02626)."""
    return weight.detach().abs()
