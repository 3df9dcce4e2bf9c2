"""The norm slot."""

from torch import nn

from gpt2.settings import ModelSettings

EPS = 1e-5


def build_norm(settings: ModelSettings) -> nn.Module:
    """LayerNorm (1607.06450) as GPT-2 has it, or RMSNorm (1910.07467):
    x / sqrt(mean x² + 1e-5) ⊙ w, no mean, no bias.
    """
    if settings.norm == "rmsnorm":
        return nn.RMSNorm(settings.embed, eps=EPS)
    return nn.LayerNorm(settings.embed, eps=EPS, bias=settings.bias)
