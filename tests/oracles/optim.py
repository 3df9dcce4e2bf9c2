"""AdamWSPAM, the cubic schedule and the exact magnitude mask, number by number.

Written from the mathematics alone; shares no code with gpt2/. Parameters are Python
floats: one list per step, one number per parameter.
"""

import math
from collections.abc import Sequence


def _scale(since: int | None, warmup_n: int) -> float:
    """1 - 0.99 (1 + cos(π j/(N+1)))/2 in step j since a reset, j < N; else 1."""
    if since is None or since >= warmup_n:
        return 1.0
    return 1 - 0.99 * (1 + math.cos(math.pi * since / (warmup_n + 1))) / 2


def adamwspam(
    params: Sequence[float],
    grads: Sequence[Sequence[float]],
    lr: float | Sequence[float],
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    theta: float,
    interval: int,
    warmup_n: int,
    clip_from: int = 20,
    reset_correction: bool = True,
    decay_after: bool = False,
    eps_corrected: bool = True,
) -> list[list[float]]:
    """Parameters after each step of AdamW with SPAM (2501.06842), for one group.

    Steps n count from 1; grads[n-1] is step n's, lr one number or one per step. At the
    start of step n with n mod ΔT = 0 both moments become 0, and j counts from there
    (that step has j = 0; interval 0 never resets). Then per number:

    1. g ← sign(g) √(θ v) where g² > θ v and v > 0, v before this step's update and
       not bias-corrected; from step clip_from on, never where j < clip_from.
    2. m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g².
    3. w ← w - lr·λ·w, not scaled; decay_after: this after 4, the authors' code.
    4. w ← w - lr · scale(j) · m̂ / (√v̂ + ε) with m̂ = m/(1-β₁ⁱ), v̂ = v/(1-β₂ⁱ); i: the
       steps since the reset, this one included; all steps without reset_correction.
       eps_corrected False: m̂/((√v + ε)/√(1-β₂ⁱ)), the authors' code's place for ε.
    """
    beta1, beta2 = betas
    w = [float(x) for x in params]
    m, v = [0.0] * len(w), [0.0] * len(w)
    since = None  # j, None before the first reset
    counted = 0  # i
    after_each = []
    for n, gradient in enumerate(grads, start=1):
        lr_n = lr[n - 1] if isinstance(lr, Sequence) else lr
        since = None if since is None else since + 1
        if interval and n % interval == 0:
            m, v = [0.0] * len(w), [0.0] * len(w)
            since = 0
            counted = 0 if reset_correction else counted
        counted += 1
        clipping = n >= clip_from and (since is None or since >= clip_from)
        for i, g in enumerate(gradient):
            if clipping and v[i] > 0 and g * g > theta * v[i]:
                g = math.copysign(math.sqrt(theta * v[i]), g)
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            m_hat = m[i] / (1 - beta1**counted)
            correction2 = math.sqrt(1 - beta2**counted)
            if eps_corrected:
                update = m_hat / (math.sqrt(v[i]) / correction2 + eps)
            else:
                update = m_hat / ((math.sqrt(v[i]) + eps) / correction2)
            if not decay_after:
                w[i] = w[i] - lr_n * weight_decay * w[i]
            w[i] = w[i] - lr_n * _scale(since, warmup_n) * update
            if decay_after:
                w[i] = w[i] - lr_n * weight_decay * w[i]
        after_each.append(list(w))
    return after_each


def cubic(step: int, start: int, end: int, s_i: float, s_f: float) -> float:
    """s = s_f + (s_i - s_f)(1-p)³, p = (step-start)/(end-start) held in [0, 1].

    1710.01878; s_i up to start, s_f from end on.
    """
    p = min(1.0, max(0.0, (step - start) / (end - start)))
    return s_f + (s_i - s_f) * (1 - p) ** 3


def lowest_mask(
    scores: Sequence[float], live: Sequence[bool], sparsity: float
) -> list[bool]:
    """Mask (True: keep) that prunes the lowest live scores, ties by lower index first.

    round(sparsity · all) numbers are 0 afterwards, the pruned ones counted; a pruned
    number is never ranked and never comes back, even where more than that are pruned.
    """
    n = len(scores)
    assert len(live) == n
    mask = [bool(alive) for alive in live]
    ranked = sorted((i for i in range(n) if mask[i]), key=lambda i: (scores[i], i))
    already = n - len(ranked)
    for i in ranked[: max(0, round(sparsity * n) - already)]:
        mask[i] = False
    return mask


def magnitude_mask(
    weights: Sequence[float], live: Sequence[bool], sparsity: float
) -> list[bool]:
    """lowest_mask with the score |w|."""
    return lowest_mask([abs(float(w)) for w in weights], live, sparsity)


def criterion(name: str, w: float, m: float, v: float, eps: float = 1e-8) -> float:
    """What a weight is worth to pruning from the optimizer's state; lowest goes."""
    if name == "magnitude":
        return abs(w)
    if name == "hybrid":
        return abs(w * m) * abs(w) / (math.sqrt(v) + eps)
    if name in ("gradient_magnitude", "layer_adaptive"):
        return abs(w) * math.sqrt(abs(m))
    if name == "movement":
        towards_zero = m if w > 0 else -m if w < 0 else 0.0
        return -towards_zero / (math.sqrt(v) + eps)
    if name == "coherence":
        return abs(w) * math.sqrt(abs(m)) * math.sqrt(m * m / (v + eps))
    assert name == "variance"
    return abs(w) * v**0.25


def two_of_four_mask(
    scores: Sequence[float], pruned: Sequence[bool], count: int
) -> list[bool]:
    """Mask (True: pruned) after `count` more, at most two of every four in a row.

    One at a time: the lowest live number, ties by lower index, whose four still
    hold fewer than two pruned ones.
    """
    mask = list(pruned)
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    for _ in range(count):
        free = (
            i
            for i in order
            if not mask[i] and sum(mask[i // 4 * 4 : i // 4 * 4 + 4]) < 2
        )
        mask[next(free)] = True
    return mask


def block_sparsities(sizes: Sequence[int], sparsity: float) -> list[float]:
    """Of every block under layer_adaptive: λ f_i s, f_i from 0.7 to 1.3 over the
    depth, at most 1; what a full block cannot take the others share, by f_i.

    λ such that all blocks together have the sparsity, by bisection.
    """
    n = len(sizes)
    factors = [0.7 + 0.6 * i / (n - 1) if n > 1 else 1.0 for i in range(n)]

    def shares(scale: float) -> list[float]:
        return [min(1.0, scale * f * sparsity) for f in factors]

    low, high = 0.0, 2 / sparsity
    for _ in range(200):
        middle = (low + high) / 2
        total = sum(share * size for share, size in zip(shares(middle), sizes))
        low, high = (low, middle) if total > sparsity * sum(sizes) else (middle, high)
    return shares(low)
