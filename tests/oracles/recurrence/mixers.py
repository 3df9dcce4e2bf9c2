"""Whole mixers x -> y of one sequence, token by token: x is a block's normed input.

mixers decide by their papers and public code where a formula leaves a choice:

- a weight w is (out, in); q, k, v and o have a bias where there is one to have, added
  before the convolution; nothing else has, but Mamba-2's convolution;
- a convolution of 4 taps sees its document alone, w[:, 3] meets the token itself;
- norm and gate: the norm of a head first, then ⊙ silu(x W_g) (RetNet, GLA, GDN), its D
  weights shared by the heads; Mamba-2 gates first, then norms all 2E channels at once;
- q D^-1/2 in all but linear attention, whose sum divides, and Mamba-2, which has none;
- RetNet rotates by the distance from the document's first token, without xPos' scales;
- GDN decays the state before the delta is read from it.

Legend: op.py; N width of Mamba-2's state; firsts_T: the first token of every token's
document.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.oracles.recurrence.linear import feature
from tests.oracles.recurrence.op import Inputs, begins, head
from tests.oracles.recurrence.pieces import (
    Weights,
    convolved,
    log_sigmoid,
    of_head,
    projected,
    rms_norm,
    rotated,
    silu,
    softplus,
    unit,
)
from tests.oracles.scalars import linear as affine
from tests.oracles.scalars import sigmoid

ROPE_BASE = 10000.0
GLA_TEMPERATURE = 16


def _firsts(x_TE: Tensor, starts_T: Sequence[int] | None) -> list[int]:
    return [0] * len(x_TE) if starts_T is None else [int(first) for first in starts_T]


def _out(heads_T: list[list[Tensor]], weights: Weights) -> Tensor:
    """W_o of the heads of every token, side by side."""
    bias = weights.get("o.bias")
    rows = [affine(torch.cat(heads), weights["o"], bias) for heads in heads_T]
    return torch.stack(rows)


def _normed(o_HT: list[list[Tensor]], weights: Weights) -> list[list[Tensor]]:
    """The norm of every head of every token, by token."""
    return [
        [rms_norm(o_V, weights["norm"]) for o_V in heads]
        for heads in zip(*o_HT, strict=True)
    ]


def _gated(heads_T: list[list[Tensor]], x_TE: Tensor, weights: Weights):
    """Every head ⊙ silu(x W_g), its own channels of it."""
    gates_T = projected(x_TE, weights, "g")
    D = len(heads_T[0][0])
    return [
        [o_V * silu(g_E[h * D : h * D + D]) for h, o_V in enumerate(heads)]
        for heads, g_E in zip(heads_T, gates_T, strict=True)
    ]


def linear(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """o_t = S_tᵀ φ(q_t) / (z_t·φ(q_t) + 1e-6), S_t = S_{t-1} + φ(k_t) v_tᵀ, z_t = z_{t-1}
    + φ(k_t), φ = elu + 1 (2006.16236, section 3): z is the state of values that are 1.
    """
    firsts, D = _firsts(x_TE, starts_T), x_TE.shape[1] // H
    q, k, v = (projected(x_TE, weights, name) for name in "qkv")
    o_HT = []
    for h in range(H):
        q_TD = torch.stack([feature(row) for row in of_head(q, h, D)])
        k_TD = torch.stack([feature(row) for row in of_head(k, h, D)])
        v_TD = of_head(v, h, D)
        new = begins(firsts, len(x_TE))
        o, _ = head(Inputs(q_TD, k_TD, v_TD), new)
        z, _ = head(Inputs(q_TD, k_TD, torch.ones_like(v_TD[:, :1])), new)
        o_HT.append([o_V / (z_1 + 1e-6) for o_V, z_1 in zip(o, z, strict=True)])
    return _out([list(heads) for heads in zip(*o_HT, strict=True)], weights)


def retnet(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """S_t = γ_h S_{t-1} + k_t v_tᵀ, γ_h = 1 - 2^(-5-h), q and k rotated (2307.08621)."""
    firsts, D = _firsts(x_TE, starts_T), x_TE.shape[1] // H
    q, k, v = (projected(x_TE, weights, name) for name in "qkv")
    o_HT = []
    for h in range(H):
        turned = [
            torch.stack(
                [
                    rotated(x_D, t - firsts[t], ROPE_BASE)
                    for t, x_D in enumerate(of_head(vectors, h, D))
                ]
            )
            for vectors in (q, k)
        ]
        log_gamma = math.log(1 - 2.0 ** (-5 - h))
        g_T = torch.full((len(x_TE),), log_gamma, dtype=torch.float64)
        inputs = Inputs(turned[0] / math.sqrt(D), turned[1], of_head(v, h, D), g_T)
        o_HT.append(head(inputs, begins(firsts, len(x_TE)))[0])
    return _out(_gated(_normed(o_HT, weights), x_TE, weights), weights)


def gla(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """S_t = diag(α_t) S_{t-1} + k_t v_tᵀ, ln α = ln σ(W_up W_down x + b) / 16, of every
    key channel (2312.06635).
    """
    firsts, D = _firsts(x_TE, starts_T), x_TE.shape[1] // H
    q, k, v = (projected(x_TE, weights, name) for name in "qkv")
    g = []
    for down in projected(x_TE, weights, "decay_down"):
        logit_E = affine(down, weights["decay_up"], weights["decay_offset"])
        g.append(log_sigmoid(logit_E) / GLA_TEMPERATURE)
    o_HT = []
    for h in range(H):
        q_TD, k_TD, v_TD, g_TD = (of_head(u, h, D) for u in (q, k, v, g))
        inputs = Inputs(q_TD / math.sqrt(D), k_TD, v_TD, g_TD)
        o_HT.append(head(inputs, begins(firsts, len(x_TE)))[0])
    return _out(_gated(_normed(o_HT, weights), x_TE, weights), weights)


def _short(x_TE: Tensor, weights: Weights, firsts_T: list[int], name: str):
    """silu(conv4(x W)) of q, k or v."""
    u = projected(x_TE, weights, name)
    return [silu(y) for y in convolved(u, weights[f"conv_{name}"], None, firsts_T)]


def _delta(
    x_TE: Tensor,
    weights: Weights,
    H: int,
    firsts_T: list[int],
    log_decay: Callable[[int], Tensor] | None,
) -> list[list[Tensor]]:
    """Head outputs, by head: S_t = α_t S_{t-1} - β k (kᵀ α_t S_{t-1}) + β k vᵀ, q and k
    of length 1, β = σ(x w_h). log_decay: ln α_T of a head.
    """
    D = x_TE.shape[1] // H
    q, k, v = (_short(x_TE, weights, firsts_T, name) for name in "qkv")
    beta = projected(x_TE, weights, "beta")
    o_HT = []
    for h in range(H):
        q_TD = torch.stack([unit(row) for row in of_head(q, h, D)])
        k_TD = torch.stack([unit(row) for row in of_head(k, h, D)])
        beta_T1 = sigmoid(of_head(beta, h, 1))
        inputs = Inputs(
            q_TD / math.sqrt(D),
            k_TD,
            beta_T1 * of_head(v, h, D),
            None if log_decay is None else log_decay(h),
            k_TD,
            beta_T1 * k_TD,
        )
        o_HT.append(head(inputs, begins(firsts_T, len(x_TE)))[0])
    return o_HT


def deltanet(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """S_t = S_{t-1} (in keys) (I - β k kᵀ) + β k vᵀ, without a gate (2406.06484)."""
    o_HT = _delta(x_TE, weights, H, _firsts(x_TE, starts_T), None)
    return _out(_normed(o_HT, weights), weights)


def gdn(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """DeltaNet's of a state that first decays by ln α = -exp(A_h) softplus(x w_h + b_h),
    gated (2412.06464).
    """
    decay = projected(x_TE, weights, "decay")

    def log_decay(h: int) -> Tensor:
        rate = torch.exp(weights["A_log"][h])
        offset = weights["dt_offset"][h]
        return torch.stack([-rate * softplus(row[h] + offset) for row in decay])

    o_HT = _delta(x_TE, weights, H, _firsts(x_TE, starts_T), log_decay)
    return _out(_gated(_normed(o_HT, weights), x_TE, weights), weights)


def mamba2(x_TE: Tensor, weights: Weights, H: int, starts_T=None) -> Tensor:
    """S_t = exp(-exp(A_h) Δ_t) S_{t-1} + B_t (Δ_t x_t)ᵀ, o_t = S_tᵀ C_t + D_h x_t, Δ =
    softplus(x w_h + b_h), of 2H heads of width E/H; x, B and C by convolution with a
    bias, and SiLU; y = norm(o ⊙ silu(z)) W_o (2405.21060, section 7).
    """
    T, D = len(x_TE), x_TE.shape[1] // H
    firsts = _firsts(x_TE, starts_T)
    mixed = {}
    for name in "xBC":
        u = projected(x_TE, weights, name)
        filters, bias = weights[f"conv_{name}"], weights[f"conv_{name}.bias"]
        mixed[name] = [silu(y) for y in convolved(u, filters, bias, firsts)]
    z, dt = projected(x_TE, weights, "z"), projected(x_TE, weights, "dt")
    o_HT = []
    for h in range(2 * H):
        delta_T = torch.stack(
            [softplus(row[h] + weights["dt_offset"][h]) for row in dt]
        )
        x_TD = of_head(mixed["x"], h, D)
        inputs = Inputs(
            torch.stack(mixed["C"]),
            torch.stack(mixed["B"]),
            delta_T[:, None] * x_TD,
            -torch.exp(weights["A_log"][h]) * delta_T,
        )
        outputs, _ = head(inputs, begins(firsts, T))
        skip = weights["D_skip"][h]
        o_HT.append([outputs[t] + skip * x_TD[t] for t in range(T)])
    rows = []
    for t, heads in enumerate(zip(*o_HT, strict=True)):
        rows.append([rms_norm(torch.cat(heads) * silu(z[t]), weights["norm"])])
    return _out(rows, weights)


MIXERS = {
    "linear": linear,
    "retnet": retnet,
    "mamba2": mamba2,
    "gla": gla,
    "deltanet": deltanet,
    "gdn": gdn,
}
"""By their names in CONFIG_MIXER_LAYERS."""
