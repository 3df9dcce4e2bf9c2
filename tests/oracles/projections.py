"""What stands before and after attention, as loops: MLA, RoPE, output gate.

Legend: B batch, T tokens, E model width, H heads, D head width, L latent width.
Weights are (out, in), as nn.Linear stores them.
"""

import math

import torch
from torch import Tensor

from tests.oracles.scalars import linear, sigmoid, stacked


def rope(x_BTHD: Tensor, base: float = 10000.0) -> Tensor:
    """Rotate (x_i, x_{i+D/2}) of position t by t·base^{-2i/D}, i < D/2 (RoFormer).

    y_i = x_i cos - x_{i+D/2} sin, y_{i+D/2} = x_{i+D/2} cos + x_i sin.
    """
    B, T, H, D = x_BTHD.shape
    half = D // 2
    out = [[[[None] * D for _ in range(H)] for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                x = x_BTHD[b, t, h]
                for i in range(half):
                    angle = t * base ** (-2 * i / D)
                    cos, sin = math.cos(angle), math.sin(angle)
                    out[b][t][h][i] = x[i] * cos - x[i + half] * sin
                    out[b][t][h][i + half] = x[i + half] * cos + x[i] * sin
    return stacked(out)


def mla(
    x_BTE: Tensor,
    w_q: Tensor,
    b_q: Tensor | None,
    w_dk: Tensor,
    w_dv: Tensor | None,
    a_up: Tensor,
    u_up: Tensor,
    heads: int,
    ck_extra_BTL: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q = x W_q + b_q; c^k = x W_dk + extra; c^v = x W_dv; k = c^k A_h, v = c^v U_h.

    w_q (H·D, E), w_dk and w_dv (L, E), w_dv None: one shared latent, c^v = c^k.
    a_up and u_up (H·D, L), or (D, L): one up-projection that every head uses.
    ck_extra: what the block before adds to c^k (latent_recip), c^k being the sum.
    Returns q_BTHD, k_BTHD, v_BTHD, ck_BTL, cv_BTL.
    """
    B, T, _ = x_BTE.shape
    D = w_q.shape[0] // heads

    def per_head(y: Tensor) -> list[Tensor]:
        assert y.shape[0] in (D, heads * D), y.shape
        if y.shape[0] == D:
            return [y] * heads
        return [y[h * D : (h + 1) * D] for h in range(heads)]

    q, k, v, ck, cv = ([[None] * T for _ in range(B)] for _ in range(5))
    for b in range(B):
        for t in range(T):
            x = x_BTE[b, t]
            q[b][t] = per_head(linear(x, w_q, b_q))
            c_k = linear(x, w_dk)
            if ck_extra_BTL is not None:
                c_k = c_k + ck_extra_BTL[b, t]
            c_v = c_k if w_dv is None else linear(x, w_dv)
            k[b][t] = per_head(linear(c_k, a_up))
            v[b][t] = per_head(linear(c_v, u_up))
            ck[b][t], cv[b][t] = c_k, c_v
    return stacked(q), stacked(k), stacked(v), stacked(ck), stacked(cv)


def output_gate(o_BTHD: Tensor, x_BTE: Tensor, w: Tensor, headwise: bool) -> Tensor:
    """o_t ← o_t ⊙ σ(x_t W_o), x the attention's normed input.

    w (H, E) when headwise: one gate per head; else (H·D, E), row h·D + d for o_thd.
    """
    B, T, H, D = o_BTHD.shape
    assert w.shape[0] == (H if headwise else H * D), w.shape
    out = [[[[None] * D for _ in range(H)] for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                for d in range(D):
                    row = w[h] if headwise else w[h * D + d]
                    g = sigmoid(torch.dot(row, x_BTE[b, t]))
                    out[b][t][h][d] = o_BTHD[b, t, h, d] * g
    return stacked(out)
