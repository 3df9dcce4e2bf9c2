"""GELU in GPT-2's tanh form, quick forward."""

from kernels.gelu.op import gelu, linear_gelu
from kernels.gelu.reference import plain

__all__ = ["gelu", "linear_gelu", "plain"]
