"""Causal attention. `reference` is the readable, fp64-able definition."""

from kernels.attention.reference import attention

__all__ = ["attention"]
