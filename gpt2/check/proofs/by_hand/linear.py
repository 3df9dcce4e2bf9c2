"""Linear attention, row by row.

Legend: T tokens, E width, H heads, D head width.
"""

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer


def linear(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no probabilities and no latent."""
    T, H, D = len(x_TE), layer.model.heads, layer.model.head_width
    biases = np.split(layer.w.get("attn.qkv.bias", np.zeros(3 * H * D)), 3)
    q, k, v = (
        (layer.linear(x_TE, f"attn.{name}") + bias).reshape(T, H, D)
        for name, bias in zip("qkv", biases)
    )
    o_THD = np.zeros((T, H, D))
    for t in range(T):
        for h in range(H):
            weights = [_feature(q[t, h]) @ _feature(k[s, h]) for s in range(t + 1)]
            mixed = sum(weight * v[s, h] for s, weight in enumerate(weights))
            o_THD[t, h] = mixed / (sum(weights) + 1e-6)
    o_THD = layer.head_gates(o_THD, x_TE, gate_TH)
    return layer.linear(o_THD.reshape(T, H * D), "attn.o", "attn.o.bias"), None, None


def _feature(x_D: np.ndarray) -> np.ndarray:
    """elu(x) + 1."""
    return np.where(x_D > 0, x_D + 1, np.exp(np.minimum(x_D, 0)))
