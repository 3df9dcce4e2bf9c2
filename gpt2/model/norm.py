"""The norm slot."""

import torch
from torch import nn

from gpt2.settings.run import ModelSettings
from kernels.norm import add_norm

EPS = 1e-5


def build_norm(settings: ModelSettings) -> nn.Module:
    """LayerNorm (1607.06450) as GPT-2 has it, or RMSNorm (1910.07467):
    x / sqrt(mean x² + 1e-5) ⊙ w, no mean, no bias.
    """
    if settings.norm == "rmsnorm":
        return nn.RMSNorm(settings.embed, eps=EPS)
    return nn.LayerNorm(settings.embed, eps=EPS, bias=settings.bias)


def added(
    norm: nn.Module, x_BnE: torch.Tensor, y_BnE: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """s = x + y and norm(s), in one pass where a kernel serves; None adds nothing."""
    if y_BnE is None:
        return x_BnE, norm(x_BnE)
    centred = isinstance(norm, nn.LayerNorm)
    bias_E = norm.bias if centred else None
    return add_norm(x_BnE, y_BnE, norm.weight, bias_E, norm.eps, centred)
