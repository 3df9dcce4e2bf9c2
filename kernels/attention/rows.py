"""Storage of one number per row of attention.

Legend: B batch, T positions, H query heads.
"""

import torch


def per_row(q: torch.Tensor) -> torch.Tensor:
    """A new fp32 tensor [B, H, T] in which every head's rows start aligned."""
    B, T, H, _ = q.shape
    return q.new_empty(B, H, -(-T // 32) * 32, dtype=torch.float32)[:, :, :T]
