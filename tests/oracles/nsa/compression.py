"""φ of NSA's compressed branch, one block and one key/value head at a time (Eq. 7).

Legend: options.py; r hidden width of φ's MLP.
"""

import math

import torch
from torch import Tensor

from tests.oracles.nsa.options import Options, Weights


def compressed(block_lD: Tensor, kind: str, weights: Weights, options: Options):
    """φ of a block's l keys (kind k) or values (kind v), a vector.

    mean: X̄ = Σ_m X_m / l. conv: y_c = Σ_m w_mc X_mc. mlp: X̄ + W2 gelu(W1 vec(X + pe)),
    gelu in its tanh form, as the project's MLPs have it.
    """
    mean_D = sum(block_lD[m] for m in range(options.l)) / options.l
    if options.phi == "mean":
        return mean_D
    if options.phi == "conv":
        w_lD = weights[f"phi_{kind}.w"]
        return sum(w_lD[m] * block_lD[m] for m in range(options.l))
    pe_lD, w1_rlD = weights[f"phi_{kind}.pe"], weights[f"phi_{kind}.w1"]
    y_D = mean_D
    for r in range(options.phi_hidden):
        u = sum(
            torch.dot(w1_rlD[r, m], block_lD[m] + pe_lD[m]) for m in range(options.l)
        )
        y_D = y_D + weights[f"phi_{kind}.w2"][:, r] * gelu(u)
    return y_D


def gelu(u: Tensor) -> Tensor:
    """u/2 (1 + tanh(√(2/π) (u + 0.044715 u³)))."""
    inner = math.sqrt(2 / math.pi) * (u + 0.044715 * u * u * u)
    return u / 2 * (1 + torch.tanh(inner))


def rotated(x_D: Tensor, position: int, base: float | None) -> Tensor:
    """x with the pair (c, c + D/2) turned by position · base^(-2c/D) (RoFormer); x
    where positions are learned.
    """
    if base is None:
        return x_D
    half = x_D.shape[0] // 2
    angles = [position * base ** (-c / half) for c in range(half)]
    cos = x_D.new_tensor([math.cos(angle) for angle in angles])
    sin = x_D.new_tensor([math.sin(angle) for angle in angles])
    first, second = x_D[:half], x_D[half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin])


def compressed_key(
    block_lD: Tensor, i: int, weights: Weights, options: Options
) -> Tensor:
    """K^c_i of a document's block i from l keys, rotated ones where phi_rope is before;
    where it is after, φ's vector is rotated by i d, the block's first token.
    """
    k_D = compressed(block_lD, "k", weights, options)
    if options.phi_rope == "after":
        return rotated(k_D, i * options.d, options.rope_base)
    return k_D


def share_left(l: int, frequency: float) -> float:
    """|sin(l f/2) / (l sin(f/2))|: of a constant key's pair that RoPE turns by f a
    token, the length that is left in the mean over l tokens.
    """
    if frequency == 0:
        return 1.0
    return abs(math.sin(l * frequency / 2) / (l * math.sin(frequency / 2)))
