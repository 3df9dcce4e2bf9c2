"""Mamba-2, token by token.

Legend: T tokens, E width, H heads, D head width, N width of the state.
"""

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer
from gpt2.check.proofs.by_hand.recurrent import (
    convolved,
    normed,
    recurrence,
    silu,
    softplus,
    written,
)


def mamba2(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no probabilities and no latent."""
    T, heads = len(x_TE), 2 * layer.model.heads
    x, B, C = (
        convolved(layer, layer.linear(x_TE, f"attn.{name}"), name) for name in "xBC"
    )
    x_THD = x.reshape(T, heads, -1)
    step_TH = softplus(layer.linear(x_TE, "attn.dt") + layer.w["attn.dt_offset"])
    decay_TH = np.exp(-np.exp(layer.w["attn.A_log"]) * step_TH)
    k, q = (np.stack([each] * heads, axis=1) for each in (B, C))
    o_THD = recurrence(q, k, step_TH[:, :, None] * x_THD, decay_TH)
    o_THD = o_THD + layer.w["attn.D_skip"][:, None] * x_THD
    gated = o_THD.reshape(T, -1) * silu(layer.linear(x_TE, "attn.z"))
    return written(layer, normed(layer, gated), x_TE, gate_TH), None, None
