"""What the oracles are made of: scalars, vectors, and the keys a query sees."""

import torch
from torch import Tensor


def visible(t: int, window: int | None, first: int = 0) -> range:
    """Keys that query t sees: max(first, t - window + 1) … t, without a window
    first … t; first: where its document begins.
    """
    assert window is None or window >= 1, window
    return range(first if window is None else max(first, t - window + 1), t + 1)


def first_of(starts_BT: Tensor | None, b: int, t: int) -> int:
    """Where the document of token t of sequence b begins; 0 without documents."""
    return 0 if starts_BT is None else int(starts_BT[b, t])


def stacked(values) -> Tensor:
    """Nested lists of scalars (or of equal tensors) as one float64 tensor."""
    if isinstance(values, Tensor):
        assert values.dtype == torch.float64, f"an oracle computes {values.dtype}"
        return values
    return torch.stack([stacked(value) for value in values])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = Σ_i weight_oi x_i + bias_o for one vector x; weight (out, in)."""
    outputs = []
    for o in range(weight.shape[0]):
        y = torch.dot(weight[o], x)
        outputs.append(y if bias is None else y + bias[o])
    return stacked(outputs)


def sigmoid(x: Tensor) -> Tensor:
    """σ(x) = 1 / (1 + e^{-x})."""
    return 1 / (1 + torch.exp(-x))
