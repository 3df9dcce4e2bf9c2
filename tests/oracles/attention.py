"""Attention mechanisms as loops over their formulas, one scalar at a time.

Written from the mathematics alone; shares no code with gpt2/ or kernels/. Slow on
purpose: every number is a float64 scalar tensor, so autograd runs through all of it.

Legend: B batch, T tokens, H query heads, G key/value heads, D head width; b, h, t, s
index them; t is the query and s <= t the key. A window counts the query's own
position: query t sees keys max(0, t - window + 1) … t, and with starts_BT none before
starts_BT[b, t], where its document begins.
"""

import math

import torch
from torch import Tensor

from tests.oracles.projections import mla, output_gate, rope
from tests.oracles.scalars import first_of, sigmoid, stacked, visible

__all__ = [
    *("scores", "softmax", "softpick", "statistic", "head_average", "gate"),
    *("ra_ct_output", "ra_ct_weights", "mix"),
    *("mla", "output_gate", "rope"),  # they live in projections.py
]


def scores(
    q_BTHD: Tensor,
    k_BTGD: Tensor,
    alpha: float | Tensor | None = None,
    band: int | None = None,
) -> Tensor:
    """S_ts = q_t·k_s/√D for s <= t, plus α (q_s·k_t)/√D where 0 <= t-s <= band.

    Head h reads key head ⌊h / (H/G)⌋. alpha: None (plain), a number, or one per head
    (H,). Returns S_BHTT, 0 in masked places.
    """
    B, T, H, D = q_BTHD.shape
    group = H // k_BTGD.shape[2]
    assert (alpha is None) == (band is None), "alpha and band come together"
    S = [[[[None] * T for _ in range(T)] for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            per_head = isinstance(alpha, Tensor) and alpha.dim() == 1
            alpha_h = alpha[h] if per_head else alpha
            for t in range(T):
                q_t, k_t = q_BTHD[b, t, h], k_BTGD[b, t, h // group]
                for s in range(T):
                    if s > t:
                        S[b][h][t][s] = q_BTHD.new_zeros(())
                        continue
                    q_s, k_s = q_BTHD[b, s, h], k_BTGD[b, s, h // group]
                    score = torch.dot(q_t, k_s) / math.sqrt(D)
                    if alpha is not None and 0 <= t - s <= band:
                        score = score + alpha_h * torch.dot(q_s, k_t) / math.sqrt(D)
                    S[b][h][t][s] = score
    return stacked(S)


def _by_row(
    scores_BHTT: Tensor, window: int | None, starts_BT: Tensor | None, row
) -> Tensor:
    """p_BHTT from row(list of visible scores) -> list of their weights; else 0."""
    B, H, T, _ = scores_BHTT.shape
    zero = scores_BHTT.new_zeros(())
    p = [[[[zero] * T for _ in range(T)] for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for t in range(T):
                keys = visible(t, window, first_of(starts_BT, b, t))
                weights = row([scores_BHTT[b, h, t, s] for s in keys])
                for s, weight in zip(keys, weights, strict=True):
                    p[b][h][t][s] = weight
    return stacked(p)


def softmax(
    scores_BHTT: Tensor, window: int | None = None, starts_BT: Tensor | None = None
) -> Tensor:
    """p_s = e^{x_s} / Σ_j e^{x_j} over visible keys, 0 elsewhere."""

    def row(x: list[Tensor]) -> list[Tensor]:
        m = max(x_s.item() for x_s in x)
        exps = [torch.exp(x_s - m) for x_s in x]
        total = sum(exps)
        return [e / total for e in exps]

    return _by_row(scores_BHTT, window, starts_BT, row)


def softpick(
    scores_BHTT: Tensor,
    eps: float = 1e-6,
    safe: bool = True,
    window: int | None = None,
    starts_BT: Tensor | None = None,
) -> Tensor:
    """p_s = relu(e^{x_s-m} - e^{-m}) / (Σ_j |e^{x_j-m} - e^{-m}| + ε), 2504.20966.

    m = max(0, max_s x_s) without gradient, 0 when not safe; sums over visible keys.
    A detached m makes the gradient of the safe form differ from its finite
    differences in proportion to ε: check it with eps=0 or safe=False.
    """

    def row(x: list[Tensor]) -> list[Tensor]:
        m = max(0.0, max(x_s.item() for x_s in x)) if safe else 0.0
        picks = []
        for x_s in x:
            if abs(x_s.item()) < 1:  # the same number, with all its digits
                picks.append(math.exp(-m) * torch.expm1(x_s))
            else:
                picks.append(torch.exp(x_s - m) - math.exp(-m))
        total = sum(torch.abs(pick) for pick in picks) + eps
        return [torch.relu(pick) / total for pick in picks]

    return _by_row(scores_BHTT, window, starts_BT, row)


def _statistic(p: list[Tensor], kind: str, k: int) -> Tensor:
    n, zero = len(p), p[0].new_zeros(())
    if kind == "topk":
        largest = sorted(p, key=lambda p_s: -p_s.item())
        return sum(largest[: min(k, n)])
    if kind == "max":
        return sorted(p, key=lambda p_s: -p_s.item())[0]
    if kind == "entropy":
        if n == 1:
            return zero
        entropy = zero - sum(p_s * torch.log(p_s) for p_s in p if p_s.item() > 0)
        return 1 - entropy / math.log(n)
    assert kind == "rms", kind
    mean = sum(p_s * p_s for p_s in p) / n
    return torch.sqrt(mean) if mean.item() > 0 else zero


def statistic(
    p_BHTT: Tensor,
    kind: str,
    k: int = 8,
    window: int | None = None,
    starts_BT: Tensor | None = None,
) -> Tensor:
    """RA-CT's statistic of each query's row over its n visible keys, stat_BHT.

    topk: mass of the min(k, n) largest; max; entropy: 1 - H(p)/ln(n), 0 where n = 1;
    rms: √(Σp²/n). Without a window n = t+1, less what lies before the document.
    """
    B, H, T, _ = p_BHTT.shape
    stats = [[[None] * T for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for t in range(T):
                keys = visible(t, window, first_of(starts_BT, b, t))
                row = [p_BHTT[b, h, t, s] for s in keys]
                stats[b][h][t] = _statistic(row, kind, k)
    return stacked(stats)


def head_average(p_BHTT: Tensor) -> Tensor:
    """RA-CT's head_average: every head's row is Σ_h p_h / H."""
    B, H, T, _ = p_BHTT.shape
    means = [sum(p_BHTT[b, h] for h in range(H)) / H for b in range(B)]
    return stacked([[means[b]] * H for b in range(B)])


def gate(stat_BHT: Tensor, a_H: Tensor, b_H: Tensor) -> Tensor:
    """g = σ(a_h stat + b_h), g_BHT."""
    B, H, T = stat_BHT.shape
    g = [[[None] * T for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for t in range(T):
                g[b][h][t] = sigmoid(a_H[h] * stat_BHT[b, h, t] + b_H[h])
    return stacked(g)


def ra_ct_output(o_BTHD: Tensor, g_BHT: Tensor, alpha: float) -> Tensor:
    """o ← (1-α) o + α (g ⊙ o)."""
    B, T, H, _ = o_BTHD.shape
    out = [[[None] * H for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                o = o_BTHD[b, t, h]
                out[b][t][h] = (1 - alpha) * o + alpha * (g_BHT[b, h, t] * o)
    return stacked(out)


def ra_ct_weights(scores_BHTT: Tensor, g_BHT: Tensor, alpha: float) -> Tensor:
    """S ← ((1-α) + α g) S, before the normaliser; g from the normalised S."""
    B, H, T, _ = scores_BHTT.shape
    S = [[[None] * T for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for t in range(T):
                factor = (1 - alpha) + alpha * g_BHT[b, h, t]
                S[b][h][t] = factor * scores_BHTT[b, h, t]
    return stacked(S)


def mix(p_BHTT: Tensor, v_BTGD: Tensor) -> Tensor:
    """o_t = Σ_{s<=t} p_ts v_s; head h reads value head ⌊h / (H/G)⌋. Returns o_BTHD."""
    B, H, T, _ = p_BHTT.shape
    group = H // v_BTGD.shape[2]
    out = [[[None] * H for _ in range(T)] for _ in range(B)]
    for b in range(B):
        for t in range(T):
            for h in range(H):
                o = torch.zeros_like(v_BTGD[b, t, h // group])
                for s in range(t + 1):
                    o = o + p_BHTT[b, h, t, s] * v_BTGD[b, s, h // group]
                out[b][t][h] = o
    return stacked(out)
