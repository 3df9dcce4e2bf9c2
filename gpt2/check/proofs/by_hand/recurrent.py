"""What the recurrent mixers do, token by token.

Legend: T tokens, E width, F channels, H heads, K key width, V value width.
"""

import numpy as np

from gpt2.check.proofs.by_hand.layer import Layer, sigmoid


def projected(layer: Layer, x_TE: np.ndarray) -> list[np.ndarray]:
    """q, k and v, (T, E) each, with their biases."""
    E = layer.model.embed
    biases = np.split(layer.w.get("attn.qkv.bias", np.zeros(3 * E)), 3)
    return [layer.linear(x_TE, f"attn.{n}") + b for n, b in zip("qkv", biases)]


def convolved(layer: Layer, u_TF: np.ndarray, name: str) -> np.ndarray:
    """silu(Σ_j w_j u_{t-3+j} + b), of the tokens that are there."""
    weight = layer.w[f"attn.conv_{name}.weight"]
    y_TF = np.zeros_like(u_TF) + layer.w.get(f"attn.conv_{name}.bias", 0.0)
    for t in range(len(u_TF)):
        for j in range(4):
            if t - 3 + j >= 0:
                y_TF[t] += weight[:, j] * u_TF[t - 3 + j]
    return silu(y_TF)


def recurrence(q, k, v, decay=None, erase=None) -> np.ndarray:
    """o_THV of q_THK, k_THK, v_THV; decay: exp g, of a head (T, H) or of its channels
    (T, H, K); erase: (e_THK, c_THK).
    """
    T, H, K = q.shape
    o, S = np.zeros((T, H, v.shape[2])), np.zeros((H, K, v.shape[2]))
    for t in range(T):
        for h in range(H):
            if decay is not None:
                S[h] = (decay[t, h] * np.ones(K))[:, None] * S[h]
            if erase is not None:
                e, c = erase[0][t, h], erase[1][t, h]
                S[h] = S[h] - np.outer(c, e @ S[h])
            S[h] = S[h] + np.outer(k[t, h], v[t, h])
            o[t, h] = q[t, h] @ S[h]
    return o


def normed(layer: Layer, o: np.ndarray) -> np.ndarray:
    """RMSNorm of the last axis."""
    root = np.sqrt((o**2).mean(axis=-1, keepdims=True) + 1e-5)
    return o / root * layer.w["attn.norm.weight"]


def written(layer: Layer, o_THV: np.ndarray, x_TE: np.ndarray, gate_TH) -> np.ndarray:
    """What the head gates leave, through o."""
    heads_THD = o_THV.reshape(len(o_THV), layer.model.heads, -1)
    o_THD = layer.head_gates(heads_THD, x_TE, gate_TH)
    return layer.linear(o_THD.reshape(len(o_THD), -1), "attn.o", "attn.o.bias")


def unit(x: np.ndarray) -> np.ndarray:
    """x / √(Σ x² + 1e-6) of the last axis."""
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-6)


def silu(x: np.ndarray) -> np.ndarray:
    """x σ(x)."""
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    """ln(1 + e^x)."""
    return np.logaddexp(0.0, x)
