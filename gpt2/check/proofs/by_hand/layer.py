"""What every formula of a block reads: its settings, its weights, what is held.

Legend: T tokens, E width.
"""

from collections.abc import Callable

import numpy as np

from gpt2.settings.run import ModelSettings

Weights = dict[str, np.ndarray]
Drop = Callable[[np.ndarray], np.ndarray]


class Held:
    """Values that backward takes for constants.

    The first evaluation keeps them, later ones get them back: a difference of
    two evaluations then leaves them out, as a gradient does.
    """

    def __init__(self):
        self.kept: dict[tuple, np.ndarray] = {}

    def __call__(self, key: tuple, value: np.ndarray) -> np.ndarray:
        return self.kept.setdefault(key, value)


class Layer:
    """Block i: its own weights w by their names within it, and linear maps by them."""

    def __init__(self, model: ModelSettings, w: Weights, i: int, held: Held):
        self.model, self.i, self.held = model, i, held
        self.w = {
            n.split(".", 2)[2]: a for n, a in w.items() if n.startswith(f"h.{i}.")
        }
        self.last = i == model.depth - 1

    def linear(self, x: np.ndarray, name: str, bias: str = "") -> np.ndarray:
        """x W^T + b."""
        return x @ self.w[name].T + self.w.get(bias, 0.0)

    def norm(self, x_TE: np.ndarray, name: str) -> np.ndarray:
        """The block's norm of that name."""
        weight, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        return norm(self.model, x_TE, weight, bias)

    def head_gates(self, o_THD: np.ndarray, x_TE: np.ndarray, gate_TH) -> np.ndarray:
        """o times the previous block's gate and the output gate."""
        if gate_TH is not None:
            o_THD = o_THD * gate_TH[:, :, None]
        if self.model.output_gate != "none":
            gates = sigmoid(self.linear(x_TE, "attn.out_gate"))
            o_THD = o_THD * gates.reshape(*o_THD.shape[:2], -1)
        return o_THD


def norm(model: ModelSettings, x_TE: np.ndarray, weight_E, bias_E) -> np.ndarray:
    """LayerNorm or RMSNorm."""
    if model.norm == "layernorm":
        x_TE = x_TE - x_TE.mean(axis=1, keepdims=True)
    x_TE = x_TE / np.sqrt((x_TE**2).mean(axis=1, keepdims=True) + 1e-5) * weight_E
    return x_TE if bias_E is None else x_TE + bias_E


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))
