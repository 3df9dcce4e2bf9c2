"""Retention, token by token.

Legend: T tokens, E width, H heads, D head width.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer
from gpt2.check.proofs.by_hand.recurrent import (
    normed,
    projected,
    recurrence,
    silu,
    written,
)


def retnet(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no probabilities and no latent."""
    T, H, D = len(x_TE), layer.model.heads, layer.model.head_width
    q, k, v = (each.reshape(T, H, D) for each in projected(layer, x_TE))
    q, k = (_turned(layer, each) for each in (q, k))
    decay_TH = np.tile([1 - 2.0 ** (-5 - h) for h in range(H)], (T, 1))
    o_THD = normed(layer, recurrence(q / math.sqrt(D), k, v, decay_TH))
    o_THD = o_THD * silu(layer.linear(x_TE, "attn.g")).reshape(T, H, D)
    return written(layer, o_THD, x_TE, gate_TH), None, None


def _turned(layer: Layer, x_THD: np.ndarray) -> np.ndarray:
    """Pairs (i, i + D/2) turned by t · base^(-2i/D)."""
    half, base = x_THD.shape[2] // 2, 10000.0
    if layer.model.position == "rope":
        base = layer.model.rope_base
    y_THD = np.zeros_like(x_THD)
    for t in range(len(x_THD)):
        for i in range(half):
            angle = t * base ** (-2 * i / (2 * half))
            a, b = x_THD[t, :, i], x_THD[t, :, i + half]
            y_THD[t, :, i] = a * math.cos(angle) - b * math.sin(angle)
            y_THD[t, :, i + half] = a * math.sin(angle) + b * math.cos(angle)
    return y_THD
