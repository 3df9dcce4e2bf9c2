"""Rotary positions.

Legend: B batch, n tokens, H heads, D head width.
"""

import torch


def rotate(x_BnHD: torch.Tensor, start: int, base: float) -> torch.Tensor:
    """x with the pair (i, i + D/2) rotated by (start + t) · base^(-2i/D)."""
    place_n = torch.arange(start, start + x_BnHD.shape[1], device=x_BnHD.device)
    return rotate_at(x_BnHD, place_n, base)


def rotate_at(x_BnHD: torch.Tensor, place: torch.Tensor, base: float) -> torch.Tensor:
    """x with the pair (i, i + D/2) rotated by place · base^(-2i/D); place_n, or place_Bn
    where sequences differ.

    RoFormer (2104.09864, eq. 34) with split halves; angles in fp32 at least, and
    frequencies as 1 / base^(2i/D), which is how transformers rounds them: an ulp
    there is 1e-4 of an angle at position 2000.
    """
    half = x_BnHD.shape[3] // 2
    wide = torch.promote_types(x_BnHD.dtype, torch.float32)
    index_i = torch.arange(half, device=x_BnHD.device, dtype=wide)
    angle_ni = place.to(wide)[..., None] * (1.0 / base ** (index_i / half))
    cos_n1i, sin_n1i = angle_ni.cos()[..., None, :], angle_ni.sin()[..., None, :]
    a, b = x_BnHD[..., :half], x_BnHD[..., half:]
    rotated = torch.cat([a * cos_n1i - b * sin_n1i, b * cos_n1i + a * sin_n1i], dim=-1)
    return rotated.to(x_BnHD.dtype)
