"""Mixers that keep a state, as sums over the tokens a query sees, scalar by scalar.

Written from the formulas alone. Legend: B batch, T tokens, H heads, D head width.
"""

import torch
from torch import Tensor

from tests.oracles.scalars import first_of, stacked, visible


def feature(x_D: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1: x + 1 above 0, e^x below."""
    return torch.stack([x + 1 if x > 0 else torch.exp(x) for x in x_D])


def linear_attention(
    q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, starts_BT: Tensor | None = None
) -> Tensor:
    """o_t = Σ_s (φ(q_t)·φ(k_s)) v_s / (Σ_s φ(q_t)·φ(k_s) + 1e-6), s from the first
    token of t's document up to t (2006.16236, section 3). o_BTHD.
    """
    B, T, H, _ = q_BTHD.shape
    o = [[[None] * H for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                seen = visible(t, None, first_of(starts_BT, b, t))
                q = feature(q_BTHD[b, t, h])
                w = [torch.dot(q, feature(k_BTHD[b, s, h])) for s in seen]
                mixed = sum(w_s * v_BTHD[b, s, h] for w_s, s in zip(w, seen))
                o[b][t][h] = mixed / (sum(w) + 1e-6)
    return stacked(o)
