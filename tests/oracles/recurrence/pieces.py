"""What stands around a recurrence: convolution, activations, norms, rotation.

One token or one channel at a time. Legend: op.py; W channels of a convolution.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.oracles.scalars import linear, sigmoid, stacked

TAPS = 4
RMS_EPS = 1e-5
L2_EPS = 1e-6

Weights = dict[str, Tensor]
"""By logical name: q, k, v, o, g, norm, conv_q …; NAME.bias where there is one."""


def silu(x: Tensor) -> Tensor:
    """x σ(x), swish."""
    return x * sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """ln(1 + e^x)."""
    return torch.log1p(torch.exp(x))


def log_sigmoid(x: Tensor) -> Tensor:
    """ln σ(x) = -ln(1 + e^-x)."""
    return -softplus(-x)


def unit(x_D: Tensor) -> Tensor:
    """x / √(Σ x² + 1e-6)."""
    return x_D / torch.sqrt(torch.dot(x_D, x_D) + L2_EPS)


def rms_norm(x_W: Tensor, weight_W: Tensor) -> Tensor:
    """x / √(mean x² + 1e-5) ⊙ w (1910.07467)."""
    return x_W / torch.sqrt(torch.dot(x_W, x_W) / len(x_W) + RMS_EPS) * weight_W


def projected(x_TE: Tensor, weights: Weights, name: str) -> list[Tensor]:
    """W x_t + b of every token, b where there is one."""
    bias = weights.get(f"{name}.bias")
    return [linear(x_E, weights[name], bias) for x_E in x_TE]


def convolved(
    u_T: Sequence[Tensor],
    filter_W4: Tensor,
    bias_W: Tensor | None,
    firsts_T: Sequence[int],
) -> list[Tensor]:
    """y_t[c] = Σ_j w[c, j] u_{t-3+j}[c] + b[c], j = 0 … 3: w[:, 3] meets the token
    itself. firsts_T: the first token of every token's document; what lies before it is 0.
    """
    outputs = []
    for t, first in enumerate(firsts_T):
        y_W = torch.zeros_like(u_T[t]) if bias_W is None else bias_W
        for j in range(TAPS):
            s = t - (TAPS - 1) + j
            if s >= first:
                y_W = y_W + filter_W4[:, j] * u_T[s]
        outputs.append(y_W)
    return outputs


def rotated(x_D: Tensor, place: int, base: float) -> Tensor:
    """x with the pair (i, i + D/2) turned by place · base^(-2i/D) (2104.09864)."""
    half = len(x_D) // 2
    turned = [None] * len(x_D)
    for i in range(half):
        angle = place * base ** (-i / half)
        a, b = x_D[i], x_D[i + half]
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return stacked(turned)


def of_head(vectors_T: Sequence[Tensor], h: int, D: int) -> Tensor:
    """Channels h D … h D + D - 1 of every token, (T, D)."""
    return torch.stack([x[h * D : h * D + D] for x in vectors_T])
