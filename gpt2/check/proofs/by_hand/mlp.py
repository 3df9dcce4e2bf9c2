"""The MLP and its reciprocal mechanisms.

Legend: T tokens, E width, H heads, G key/value heads, D head width, L latent width,
F MLP width, r rank, V vocabulary, S keys that one query sees.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Layer, sigmoid


def mlp(layer: Layer, x_TE: np.ndarray, p_TT: np.ndarray, ck_TL):
    """(y_TE, the gate and the latent that the next block hears)."""
    options = layer.model.mlp
    h_TF = layer.linear(x_TE, "mlp.in", "mlp.inner.bias")
    if options.kind == "swiglu":
        gate_TF = layer.linear(x_TE, "mlp.gate", "mlp.gate.bias")
        h_TF = gate_TF * sigmoid(gate_TF) * h_TF
    else:
        h_TF = _gelu(h_TF) if options.kind == "gelu" else np.maximum(h_TF, 0) ** 2
    hidden_TF, gate_TH, latent_TL = h_TF, None, None
    if options.attn_gate and not layer.last:
        gate_TH = _attn_gate(layer, h_TF)
    if options.cross_token:
        hidden_TF = hidden_TF + _cross_token(layer, h_TF, p_TT)
    if options.latent_recip:
        heard_TF, latent_TL = _latent(layer, h_TF, ck_TL)
        hidden_TF = hidden_TF + heard_TF
    return layer.linear(hidden_TF, "mlp.out", "mlp.outer.bias"), gate_TH, latent_TL


def _attn_gate(layer: Layer, h_TF: np.ndarray) -> np.ndarray:
    options = layer.model.mlp
    c_Tr = _gelu(layer.linear(h_TF, "mlp.gate_down"))
    if options.attn_gate_mean:
        c_Tr = np.stack([c_Tr[: t + 1].mean(axis=0) for t in range(len(c_Tr))])
    gamma_TH = sigmoid(layer.linear(c_Tr, "mlp.gate_up") + 2)
    return 1 - options.attn_gate_alpha + options.attn_gate_alpha * gamma_TH


def _cross_token(layer: Layer, h_TF: np.ndarray, p_TT: np.ndarray) -> np.ndarray:
    options, window = layer.model.mlp, layer.model.attention.window
    if not options.cross_token_gradient:
        p_TT = layer.held(("routing", layer.i), p_TT)
    mixed_Tr, r_Tr = layer.linear(h_TF, "mlp.cross_down"), []
    for t in range(len(h_TF)):
        first = max(0, t - window + 1) if window else 0
        weights_S = p_TT[t, first : t + 1].copy()
        if options.cross_token_mode == "topk":
            weights_S[np.argsort(weights_S)[: -options.cross_token_k]] = 0
        elif options.cross_token_mode == "rms":
            limit = options.cross_token_tau * math.sqrt((weights_S**2).mean())
            weights_S[weights_S < limit] = 0
        total = weights_S.sum()
        r_Tr.append(weights_S @ mixed_Tr[first : t + 1] / (total or 1))
    return options.cross_token_alpha * layer.linear(np.stack(r_Tr), "mlp.cross_up")


def _latent(layer: Layer, h_TF: np.ndarray, ck_TL: np.ndarray):
    """(what h hears, what the next block's c^k is told)."""
    options, L, H = layer.model.mlp, layer.model.latent, layer.model.heads
    alpha = options.latent_alpha
    if options.latent_tying == "per_head_scalar":
        head_L = [j * H // L for j in range(L)]
        basis_FL = layer.w["mlp.latent.basis_FL"]
        heard_TF = alpha * (layer.w["mlp.latent.read_H"][head_L] * ck_TL) @ basis_FL.T
        if layer.last:
            return heard_TF, None
        told_TL = layer.w["mlp.latent.write_H"][head_L] * (h_TF @ basis_FL)
        return heard_TF, alpha * told_TL
    read_FL = layer.w["mlp.latent_read"]
    tied = options.latent_tying == "tied_transpose"
    heard_TF = alpha * ck_TL @ read_FL.T
    if layer.last:
        return heard_TF, None
    write_FL = read_FL if tied else layer.w["mlp.latent_write"]
    return heard_TF, alpha * h_TF @ write_FL


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
