"""The delta rule, token by token.

Legend: T tokens, E width, H heads, D head width.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer, sigmoid
from gpt2.check.proofs.by_hand.recurrent import (
    convolved,
    normed,
    projected,
    recurrence,
    unit,
    written,
)


def deltanet(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no probabilities and no latent."""
    T, H, D = len(x_TE), layer.model.heads, layer.model.head_width
    q, k, v = (
        convolved(layer, each, name).reshape(T, H, D)
        for each, name in zip(projected(layer, x_TE), "qkv")
    )
    q, k = unit(q) / math.sqrt(D), unit(k)
    beta_TH1 = sigmoid(layer.linear(x_TE, "attn.beta"))[:, :, None]
    o_THD = recurrence(q, k, beta_TH1 * v, erase=(k, beta_TH1 * k))
    return written(layer, normed(layer, o_THD), x_TE, gate_TH), None, None
