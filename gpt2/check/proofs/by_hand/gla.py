"""Gated linear attention, token by token.

Legend: T tokens, E width, H heads, D head width.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer, sigmoid
from gpt2.check.proofs.by_hand.recurrent import (
    normed,
    projected,
    recurrence,
    silu,
    written,
)


def gla(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no probabilities and no latent."""
    T, H, D = len(x_TE), layer.model.heads, layer.model.head_width
    q, k, v = (each.reshape(T, H, D) for each in projected(layer, x_TE))
    logits_TE = layer.linear(layer.linear(x_TE, "attn.decay_down"), "attn.decay_up")
    decay_TE = sigmoid(logits_TE + layer.w["attn.decay_offset"]) ** (1 / 16)
    o_THD = recurrence(q / math.sqrt(D), k, v, decay_TE.reshape(T, H, D))
    gate_THD = silu(layer.linear(x_TE, "attn.g")).reshape(T, H, D)
    return written(layer, normed(layer, o_THD) * gate_THD, x_TE, gate_TH), None, None
