"""The definition."""

import torch
import torch.nn.functional as F


def plain(x: torch.Tensor) -> torch.Tensor:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 (1606.08415, section 2)."""
    return F.gelu(x, approximate="tanh")
