"""Distributions of initial values that are not normal, as functions of uniform numbers.

quantile(u), u in (0, 1), is drawn as the law says; both are float64.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

RATES = 16.0
"""The fastest rate that a head starts to forget with, of one step."""
STEPS = (1e-3, 1e-1)
"""Between which softplus of an offset starts; never below LEAST_STEP."""
LEAST_STEP = 1e-4

Quantile = Callable[[np.ndarray], np.ndarray]


def taps(u: np.ndarray) -> np.ndarray:
    """U(±1/√4), as torch starts a depthwise convolution of 4 taps."""
    return u - 0.5


def log_rate(slowest: float) -> Quantile:
    """ln U(slowest, 16), A of Mamba-2 (2405.21060): 1; of Gated DeltaNet: 0."""
    return partial(_log_rate, slowest=slowest)


def _log_rate(u: np.ndarray, slowest: float) -> np.ndarray:
    return np.log(slowest + (RATES - slowest) * u)


def step_offset(u: np.ndarray) -> np.ndarray:
    """Where softplus is Δ = exp U(ln 0.001, ln 0.1), at least 1e-4: the bias of
    Mamba-2's Δ.
    """
    low, high = np.log(STEPS)
    step = np.maximum(np.exp(low + (high - low) * u), LEAST_STEP)
    return step + np.log(-np.expm1(-step))
