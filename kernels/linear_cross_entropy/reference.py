"""The definition: all logits at once.

Legend: N tokens, E width, V vocabulary rows.
"""

import torch
import torch.nn.functional as F


def plain(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> torch.Tensor:
    """mean_n (log Σ_v e^{x_n · w_v} − x_n · w_{target_n}), in fp32 at least."""
    logits_NV = F.linear(x_NE, weight_VE)
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return F.cross_entropy(logits_NV, target_N)
