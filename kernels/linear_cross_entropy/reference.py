"""The definition: all logits at once.

Legend: N tokens, E width, V vocabulary rows.
"""

import torch
import torch.nn.functional as F


def plain(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> torch.Tensor:
    """mean_n (log Σ_v e^{x_n · w_v} − x_n · w_{target_n}), in fp32 at least."""
    return F.cross_entropy(_logits(x_NE, weight_VE), target_N)


def plain_losses(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean as `plain` gives it, bit for bit, and loss_N, of which it is the mean."""
    logits_NV = _logits(x_NE, weight_VE)
    each_N = F.cross_entropy(logits_NV, target_N, reduction="none")
    return F.cross_entropy(logits_NV, target_N), each_N


def _logits(x_NE: torch.Tensor, weight_VE: torch.Tensor) -> torch.Tensor:
    logits_NV = F.linear(x_NE, weight_VE)
    return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
