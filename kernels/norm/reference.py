"""The definition."""

import torch


def plain(
    x: torch.Tensor,
    y: torch.Tensor,
    weight_E: torch.Tensor,
    bias_E: torch.Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """s = x + y [..., E], and (s − μ) / √(mean (s − μ)² + eps) ⊙ w + b over the last
    dimension: μ the mean (LayerNorm, 1607.06450), or 0 (RMSNorm, 1910.07467).
    """
    s = x + y
    d = s - s.mean(-1, keepdim=True) if centred else s
    normed = d / (d.square().mean(-1, keepdim=True) + eps).sqrt() * weight_E
    return s, normed if bias_E is None else normed + bias_E
