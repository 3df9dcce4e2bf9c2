"""Attention, row by row.

Legend: T tokens, E width, H heads, G key/value heads, D head width, L latent width,
F MLP width, r rank, V vocabulary, S keys that one query sees.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer, sigmoid


def attention(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, head-averaged final p_TT, c^k_TL). drop: the dropout of a probability
    when it meets its value, and nowhere else.
    """
    model, options, H = layer.model, layer.model.attention, layer.model.heads
    kept_HTT = drop(np.ones((H, len(x_TE), len(x_TE))))
    q, k, v, ck_TL = _projected(layer, x_TE, latent_TL)
    T, D = len(x_TE), model.head_width
    o_THD, p_TT = np.zeros((T, H, D)), np.zeros((T, T))
    for t in range(T):
        first = max(0, t - options.window + 1) if options.window else 0
        s_HS = [_scores(layer, q[:, h], k[:, h], h, t, first) for h in range(H)]
        p_HS = [_normalised(layer, s_S, ("p", h, t)) for h, s_S in enumerate(s_HS)]
        factor_H = _cross_token_gate(layer, p_HS, t) if options.ra_ct else np.ones(H)
        if options.ra_ct_apply == "weights":
            p_HS = [
                _normalised(layer, factor_H[h] * s_S, ("gated", h, t))
                for h, s_S in enumerate(s_HS)
            ]
            factor_H = np.ones(H)
        for h in range(H):
            kept_S = kept_HTT[h, t, first : t + 1] * p_HS[h]
            o_THD[t, h] = factor_H[h] * (kept_S @ v[first : t + 1, h])
        p_TT[t, first : t + 1] = np.mean(p_HS, axis=0)
    o_THD = layer.head_gates(o_THD, x_TE, gate_TH)
    y_TE = layer.linear(o_THD.reshape(T, H * D), "attn.o", "attn.o.bias")
    return y_TE, p_TT, ck_TL


def _projected(layer: Layer, x_TE: np.ndarray, latent_TL):
    """q, k, v as (T, H, D) each, and c^k_TL or None."""
    model, H, D, T = layer.model, layer.model.heads, layer.model.head_width, len(x_TE)
    if model.attention.projection == "mla":
        ck_TL = layer.linear(x_TE, "attn.k_down")
        if latent_TL is not None:
            ck_TL = ck_TL + latent_TL
        shared = model.attention.mla_shared_latent
        cv_TL = ck_TL if shared else layer.linear(x_TE, "attn.v_down")
        q = layer.linear(x_TE, "attn.q", "attn.projection.q.bias")
        k, v = layer.linear(ck_TL, "attn.k_up"), layer.linear(cv_TL, "attn.v_up")
        if model.attention.mla_shared_up:
            k, v = np.tile(k, H), np.tile(v, H)
        return *(a.reshape(T, H, D) for a in (q, k, v)), ck_TL
    G = model.kv_heads
    biases = layer.w.get("attn.projection.qkv.bias", np.zeros((H + 2 * G) * D))
    cuts = np.split(biases, [H * D, (H + G) * D])
    q, k, v = (
        (layer.linear(x_TE, f"attn.{n}") + bias).reshape(T, -1, D)
        for n, bias in zip("qkv", cuts)
    )
    if model.position == "rope":
        q, k = _rotated(q, model.rope_base), _rotated(k, model.rope_base)
    of_head = [h // (H // G) for h in range(H)]
    return q, k[:, of_head], v[:, of_head], None


def _scores(layer: Layer, q_TD, k_TD, h: int, t: int, first: int) -> np.ndarray:
    """s_S of query t with the keys first … t."""
    options = layer.model.attention
    s_S = k_TD[first : t + 1] @ q_TD[t]
    if options.ra:
        alpha = np.float64(np.float32(options.ra_alpha))  # a buffer in fp32
        if options.ra_learned:
            alpha = layer.w["attn.ra.alpha_H"][h]
        for s in range(max(first, t - options.ra_band), t + 1):
            s_S[s - first] += alpha * (q_TD[s] @ k_TD[t])
    return s_S / math.sqrt(layer.model.head_width)


def _normalised(layer: Layer, s_S: np.ndarray, row: tuple[str, int, int]) -> np.ndarray:
    options = layer.model.attention
    if options.normaliser == "softmax":
        e_S = np.exp(s_S - s_S.max())
        return e_S / e_S.sum()
    m = 0.0
    if not options.softpick_unsafe:  # a constant for backward
        m = layer.held(("m", layer.i, *row), max(0.0, s_S.max()))
    e_S = np.exp(s_S - m) - math.exp(-m)
    return np.maximum(e_S, 0) / (np.abs(e_S).sum() + 1e-6)


def _cross_token_gate(layer: Layer, p_HS: list[np.ndarray], t: int) -> np.ndarray:
    """(1 - α) + α σ(a_h stat_h + b_h) of the ungated rows of query t."""
    options = layer.model.attention
    rows = p_HS
    if options.ra_ct_head_average:
        rows = [np.mean(p_HS, axis=0)] * len(p_HS)
    stat_H = np.array([_statistic(layer, p_S) for p_S in rows])
    if options.ra_ct_detach:
        stat_H = layer.held(("stat", layer.i, t), stat_H)
    scale_H, shift_H = layer.w["attn.ra_ct.scale_H"], layer.w["attn.ra_ct.shift_H"]
    alpha = options.ra_ct_alpha
    return 1 - alpha + alpha * sigmoid(scale_H * stat_H + shift_H)


def _statistic(layer: Layer, p_S: np.ndarray) -> float:
    options, seen = layer.model.attention, len(p_S)
    if options.ra_ct_statistic == "topk":
        return np.sort(p_S)[-options.ra_ct_k :].sum()
    if options.ra_ct_statistic == "max":
        return p_S.max()
    if options.ra_ct_statistic == "rms":
        return math.sqrt((p_S**2).mean())
    return 1 + (p_S * np.log(p_S)).sum() / math.log(seen) if seen > 1 else 0.0


def _rotated(x_THD: np.ndarray, base: float) -> np.ndarray:
    """Pairs (i, i + D/2) as complex numbers, turned by t · base^(-2i/D)."""
    T, _, D = x_THD.shape
    turns_TD = np.outer(np.arange(T), base ** (-2 * np.arange(D // 2) / D))
    z = (x_THD[..., : D // 2] + 1j * x_THD[..., D // 2 :]) * np.exp(
        1j * turns_TD[:, None]
    )
    return np.concatenate([z.real, z.imag], axis=2)
