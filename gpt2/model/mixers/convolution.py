"""A short depthwise convolution over the tokens of a document.

Legend: B batch, n new tokens, m = n + 3, C channels.
"""

import torch
from torch import nn

TAPS = 4
BEFORE = TAPS - 1
"""Tokens before its own that a channel reads."""


class Filters(nn.Module):
    """weight (C, 4), bias (C,) or None: y_t = Σ_j w_j u_{t-3+j} + b, so that w_3 meets
    the token itself.
    """

    def __init__(self, channels: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, TAPS))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


def convolved(
    u_BmC: torch.Tensor,
    filters: list[Filters],
    starts_BT: torch.Tensor | None,
) -> torch.Tensor:
    """y_BnC of the last n of m tokens, in fp32 at least; the filters side by side make
    the C channels. What lies before a token's document is 0.
    """
    n = u_BmC.shape[1] - BEFORE
    u_BmC = u_BmC.to(torch.promote_types(u_BmC.dtype, torch.float32))
    weight_C4 = torch.cat([each.weight for each in filters])
    y_BnC = weight_C4[:, BEFORE] * u_BmC[:, BEFORE:]
    for back in range(1, TAPS):
        tap_BnC = u_BmC[:, BEFORE - back : BEFORE - back + n]
        if starts_BT is not None:
            t_T = torch.arange(n, device=u_BmC.device)
            inside_Bn1 = (t_T - back >= starts_BT)[..., None]
            tap_BnC = torch.where(inside_Bn1, tap_BnC, 0.0)
        y_BnC = y_BnC + weight_C4[:, BEFORE - back] * tap_BnC
    if filters[0].bias is None:
        return y_BnC
    return y_BnC + torch.cat([each.bias for each in filters])
