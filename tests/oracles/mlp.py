"""The MLP side as loops over its formulas: activations and reciprocal mechanisms.

Written from the mathematics alone; shares no code with gpt2/ or kernels/. All three
mechanisms read the same h_BTF, the hidden layer right after the activation, and
their contributions add.

Legend: B batch, T tokens, F MLP width, H heads, D head width, L latent width; r_g
and r_x are the mechanisms' ranks. t is the query and s <= t the key. Weights are
(out, in), as nn.Linear stores them; a letter pair (w_FL) names another order.
"""

import math

import torch
from torch import Tensor

from tests.oracles.projections import rmsnorm
from tests.oracles.scalars import first_of, linear, sigmoid, stacked, visible

__all__ = [
    *("gelu_tanh", "swiglu", "relu2", "attn_gate", "apply_gate", "routing"),
    *("cross_token", "latent_recip"),
    "rmsnorm",  # lives in projections.py
]


def gelu_tanh(x: Tensor) -> Tensor:
    """x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), every element by itself."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def swiglu(x: Tensor, w_gate: Tensor, w_in: Tensor) -> Tensor:
    """silu(x W_gate) ⊙ (x W_in), silu(z) = z σ(z); x (…, E) to h (…, F)."""
    if x.dim() > 1:
        return stacked([swiglu(row, w_gate, w_in) for row in x])
    hidden = []
    for f in range(w_in.shape[0]):
        z = torch.dot(w_gate[f], x)
        hidden.append(z * sigmoid(z) * torch.dot(w_in[f], x))
    return stacked(hidden)


def relu2(x: Tensor) -> Tensor:
    """max(0, x)², every element by itself."""
    return torch.relu(x) * torch.relu(x)


def attn_gate(
    h_BTF: Tensor,
    w_g: Tensor,
    w_h: Tensor,
    prefix_mean: bool = True,
    starts_BT: Tensor | None = None,
) -> Tensor:
    """c_t = gelu(h_t W_g), c̄_t = mean_{s<=t} c_s, γ_t = σ(c̄_t W_h + 2); γ_BTH.

    w_g (r_g, F), w_h (H, r_g). Without prefix_mean c̄_t = c_t. gelu in its tanh form.
    With starts_BT the mean begins at starts_BT[b, t], where t's document does.
    """
    B, T, _ = h_BTF.shape
    gamma = [[None] * T for _ in range(B)]
    for b in range(B):
        c = [gelu_tanh(linear(h_BTF[b, t], w_g)) for t in range(T)]
        for t in range(T):
            seen = visible(t, None, first_of(starts_BT, b, t))
            mean = sum(c[s] for s in seen) / len(seen) if prefix_mean else c[t]
            gamma[b][t] = sigmoid(linear(mean, w_h) + 2)
    return stacked(gamma)


def apply_gate(o_BTHD: Tensor, gamma_BTH: Tensor, alpha: float) -> Tensor:
    """The next block's heads: o_h ← ((1-α) + α γ_h) o_h."""
    B, T, H, _ = o_BTHD.shape
    out = [[[None] * H for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                factor = (1 - alpha) + alpha * gamma_BTH[b, t, h]
                out[b][t][h] = factor * o_BTHD[b, t, h]
    return stacked(out)


def _kept(row: list[float], mode: str, k: int, tau: float) -> list[int]:
    """Indices of the visible keys that a row of routing keeps."""
    n = len(row)
    if mode == "none":
        return list(range(n))
    if mode == "topk":  # equal weights: the earlier key
        return sorted(range(n), key=lambda i: (-row[i], i))[: min(k, n)]
    assert mode == "rms", mode
    rms = math.sqrt(sum(p * p for p in row) / n)
    return [i for i in range(n) if row[i] >= tau * rms]


def routing(
    p_BHTT: Tensor,
    mode: str,
    k: int = 8,
    tau: float = 0.5,
    window: int | None = None,
    starts_BT: Tensor | None = None,
) -> Tensor:
    """P̄_ts = mean_h p_hts, cut by mode, each row then divided by its sum; P_BTT.

    none: all visible keys; topk: the min(k, n) largest; rms: P̄_ts >= τ √(mean_s P̄²),
    the mean over visible s (of t's document where starts_BT says so). A row that is all zero stays zero. The gradient reaches p
    (not which keys are kept): detach p for the default, routing without gradient.
    """
    B, H, T, _ = p_BHTT.shape
    zero = p_BHTT.new_zeros(())
    P = [[[zero] * T for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            keys = visible(t, window, first_of(starts_BT, b, t))
            row = [sum(p_BHTT[b, h, t, s] for h in range(H)) / H for s in keys]
            kept = _kept([p.item() for p in row], mode, k, tau)
            total = sum(row[i] for i in kept)
            for i in kept:
                P[b][t][keys[i]] = row[i] / total if total.item() > 0 else zero
    return stacked(P)


def cross_token(
    h_BTF: Tensor, P_BTT: Tensor, w_down: Tensor, w_up: Tensor, alpha: float
) -> Tensor:
    """α r_t W_up with r_t = Σ_{s<=t} P̄_ts (h_s W_down): what is added to h, BTF.

    w_down (r_x, F), w_up (F, r_x).
    """
    B, T, _ = h_BTF.shape
    out = [[None] * T for _ in range(B)]
    for b in range(B):
        down = [linear(h_BTF[b, s], w_down) for s in range(T)]
        for t in range(T):
            r = torch.zeros_like(down[t])
            for s in range(t + 1):
                r = r + P_BTT[b, t, s] * down[s]
            out[b][t] = alpha * linear(r, w_up)
    return stacked(out)


def latent_recip(
    h_BTF: Tensor,
    ck_BTL: Tensor,
    alpha: float,
    tying: str,
    weights: Tensor | tuple[Tensor, ...],
    heads: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What h gains, BTF, and what the next block's c^k gains, BTL.

    untied, weights (w_read (F, L), w_write (L, F)), two nn.Linear:
        h += α W_read c^k, next c^k += α W_write h.
    tied_transpose, weights w_FL: h += α c^k Wᵀ, next c^k += α h W.
    per_head_scalar, weights (q_FL, a_H, b_H), latent j of head ⌊jH/L⌋:
        h += α (a ⊙ c^k) Qᵀ, next c^k += α b ⊙ (h Q).
    ck is the updated c^k of this block; h is read as it was before any contribution.
    """
    B, T, F = h_BTF.shape
    L = ck_BTL.shape[2]
    scale_read = scale_write = [1.0] * L
    if tying == "untied":
        read_FL, write_LF = weights
    elif tying == "tied_transpose":
        read_FL, write_LF = weights, weights.T
    else:
        assert tying == "per_head_scalar", tying
        q_FL, a_H, b_H = weights
        read_FL, write_LF = q_FL, q_FL.T
        scale_read = [a_H[j * heads // L] for j in range(L)]
        scale_write = [b_H[j * heads // L] for j in range(L)]
    assert read_FL.shape == (F, L) and write_LF.shape == (L, F)
    to_h = [[None] * T for _ in range(B)]
    to_ck = [[None] * T for _ in range(B)]
    for b in range(B):
        for t in range(T):
            c = stacked([scale_read[j] * ck_BTL[b, t, j] for j in range(L)])
            to_h[b][t] = alpha * linear(c, read_FL)
            written = linear(h_BTF[b, t], write_LF)
            to_ck[b][t] = stacked(
                [alpha * scale_write[j] * written[j] for j in range(L)]
            )
    return stacked(to_h), stacked(to_ck)
