"""Storage of one number per row of attention.

Legend: B batch, T positions, H query heads.
"""

import torch

# A multiple of every tile's block of queries.
BLOCK = 128


def per_row(
    q: torch.Tensor, dtype: torch.dtype = torch.float32, zero: bool = False
) -> torch.Tensor:
    """A new tensor [B, H, T] in which every head's rows are stored up to a multiple
    of BLOCK: kernels read whole blocks of it. zero: what lies behind T is 0.
    """
    B, T, H, _ = q.shape
    rows = q.new_empty(B, H, -(-T // BLOCK) * BLOCK, dtype=dtype)
    if zero:
        rows[:, :, T:].zero_()
    return rows[:, :, :T]


def whole(x_BHT: torch.Tensor | None, q: torch.Tensor) -> torch.Tensor | None:
    """x stored as per_row does, 0 behind T: a copy where something between the passes
    has made it dense, as hooks on saved tensors do.
    """
    if x_BHT is None:
        return None
    _, T, H, _ = q.shape
    side = -(-T // BLOCK) * BLOCK
    if x_BHT.stride() == (H * side, side, 1):
        return x_BHT
    return per_row(q, x_BHT.dtype, zero=True).copy_(x_BHT)


def levels(q: torch.Tensor) -> torch.Tensor:
    """per_row for L: for fp32 inputs in fp64, as fp32 has no digit behind the point
    for a score of 1e7, and p = e^(s - L).
    """
    return per_row(q, torch.float64 if q.dtype == torch.float32 else torch.float32)
