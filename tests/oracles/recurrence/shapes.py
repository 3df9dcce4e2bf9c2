"""What the recurrent mixers are made of, what they cost, and where they start.

Legend: op.py; N width of Mamba-2's state, r rank of GLA's decay.
"""

import math

import torch
from torch import Tensor

from tests.oracles.recurrence.pieces import TAPS, Weights


def shapes_of(
    kind: str, E: int, H: int, N: int, bias: bool, r: int = 16
) -> dict[str, tuple]:
    """Every parameter of a mixer by its logical name, matrices (out, in)."""
    if kind == "mamba2":
        return _mamba2(E, H, N, bias)
    shapes = {name: (E, E) for name in "qkvo"}
    if bias:
        shapes |= {f"{name}.bias": (E,) for name in "qkvo"}
    if kind == "linear":
        return shapes
    shapes["norm"] = (E // H,)
    if kind in ("retnet", "gla", "gdn"):
        shapes["g"] = (E, E)
    if kind == "gla":
        shapes |= {"decay_down": (r, E), "decay_up": (E, r), "decay_offset": (E,)}
    if kind in ("deltanet", "gdn"):
        shapes |= {f"conv_{name}": (E, TAPS) for name in "qkv"}
        shapes["beta"] = (H, E)
    if kind == "gdn":
        shapes |= {"decay": (H, E), "A_log": (H,), "dt_offset": (H,)}
    return shapes


def _mamba2(E: int, H: int, N: int, bias: bool) -> dict[str, tuple]:
    shapes = {"z": (2 * E, E), "dt": (2 * H, E), "o": (E, 2 * E), "norm": (2 * E,)}
    for name, width in (("x", 2 * E), ("B", N), ("C", N)):
        shapes[name] = (width, E)
        shapes[f"conv_{name}"] = (width, TAPS)
        shapes[f"conv_{name}.bias"] = (width,)
    shapes |= {name: (2 * H,) for name in ("A_log", "dt_offset", "D_skip")}
    if bias:
        shapes["o.bias"] = (E,)
    return shapes


def randomised(
    kind: str, E: int, H: int, N: int, bias: bool, generator: torch.Generator
) -> Weights:
    """Every parameter normal, none at a value that hides it: norm, D_skip about 1."""
    weights = {}
    for name, shape in shapes_of(kind, E, H, N, bias).items():
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64) / 2
        weights[name] = 1 + drawn if name in ("norm", "D_skip") else drawn
    return weights


def parameters(kind: str, E: int, H: int, N: int, r: int = 16) -> int:
    """Without the biases of q, k, v and o."""
    D, conv = E // H, TAPS * 3 * E
    return {
        "linear": 4 * E * E,
        "retnet": 5 * E * E + D,
        "gla": 5 * E * E + 2 * r * E + E + D,
        "deltanet": 4 * E * E + E * H + conv + D,
        "gdn": 5 * E * E + 2 * E * H + 2 * H + conv + D,
        "mamba2": 6 * E * E
        + 2 * E * N
        + 2 * E * H
        + (TAPS + 1) * (2 * E + 2 * N)
        + 3 * 2 * H
        + 2 * E,
    }[kind]


def state(kind: str, E: int, H: int, N: int) -> int:
    """Values in fp32 that a decode holds for ever, without the tails of convolutions."""
    if kind == "mamba2":
        return 2 * E * N
    return E * (E // H) + (E if kind == "linear" else 0)


def tail(kind: str, E: int, N: int) -> int:
    """Values of the last three inputs of its convolutions."""
    width = {"deltanet": 3 * E, "gdn": 3 * E, "mamba2": 2 * E + 2 * N}
    return (TAPS - 1) * width.get(kind, 0)


def flops(kind: str, E: int, H: int, N: int) -> int:
    """Per token, forward and backward, beside the weights: 12 for every value of S, 18
    with the delta rule.
    """
    values = 2 * E * N if kind == "mamba2" else E * (E // H)
    return (18 if kind in ("deltanet", "gdn") else 12) * values


def share_below(law: str, value: Tensor) -> Tensor:
    """The distribution function of a law of initial values, evenly spread in [0, 1] where
    the values follow it. A_mamba2: ln U(1, 16); A_gdn: ln U(0, 16); dt_offset: softplus
    of it is exp(U(ln 0.001, ln 0.1)); conv: U(-1/2, 1/2).
    """
    if law == "A_mamba2":
        return (torch.exp(value) - 1) / 15
    if law == "A_gdn":
        return torch.exp(value) / 16
    if law == "dt_offset":
        step = torch.log(torch.log1p(torch.exp(value)))
        return (step - math.log(0.001)) / (math.log(0.1) - math.log(0.001))
    assert law == "conv", law
    return value + 0.5
