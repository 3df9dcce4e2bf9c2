"""Causal attention. `reference` is the readable, fp64-able definition;
`attention_fused` the Triton operator, imported on first use: it needs triton.
"""

from kernels.attention.reference import (
    attention,
    mix,
    normalise,
    reciprocal,
    scores,
    statistic,
    visible,
)
from kernels.attention.spec import AttentionSpec

__all__ = [
    "AttentionSpec",
    "attention",
    "attention_fused",
    "mix",
    "normalise",
    "reciprocal",
    "scores",
    "statistic",
    "visible",
]


def __getattr__(name: str):
    if name == "attention_fused":
        from kernels.attention.fused import attention_fused

        return attention_fused
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
