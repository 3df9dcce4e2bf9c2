"""Tensors small enough to work out on paper, and the comparison with paper."""

import math

import torch

LN2, LN3 = math.log(2), math.log(3)


def f64(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def heads(*rows: list[float]) -> torch.Tensor:
    """One head's vectors, one per position: (1, T, 1, D)."""
    return f64(*rows)[None, :, None, :]


def last_row(*row: float) -> torch.Tensor:
    """A (1, 1, T, T) square with this last row; the rows before hold zeros."""
    square = torch.zeros(1, 1, len(row), len(row), dtype=torch.float64)
    square[0, 0, -1] = f64(*row)
    return square


def near(actual, expected) -> None:
    """The same shape and numbers."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
