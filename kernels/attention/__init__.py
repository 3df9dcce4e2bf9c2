"""Causal attention. `reference` is the readable, fp64-able definition."""

from kernels.attention.reference import (
    attention,
    mix,
    normalise,
    reciprocal,
    scores,
    statistic,
    visible,
)

__all__ = [
    "attention",
    "mix",
    "normalise",
    "reciprocal",
    "scores",
    "statistic",
    "visible",
]
