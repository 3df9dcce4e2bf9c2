"""One transformer block, pre-norm."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.attention.attention import Attention
from gpt2.init import Matrix
from gpt2.mlp.mlp import Mlp
from gpt2.settings import ModelSettings


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) (GPT-2, section 2.3)."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        E = settings.embed
        self.norm1 = nn.LayerNorm(E, bias=settings.bias)
        self.attn = Attention(settings)
        self.norm2 = nn.LayerNorm(E, bias=settings.bias)
        self.mlp = Mlp(settings)
        self.dropout = settings.dropout

    def forward(self, x_BTE: torch.Tensor) -> torch.Tensor:
        """The residual stream after this block."""
        x_BTE = x_BTE + self._drop(self.attn(self.norm1(x_BTE)))
        return x_BTE + self._drop(self.mlp(self.norm2(x_BTE)))

    def _drop(self, x_BTE: torch.Tensor) -> torch.Tensor:
        return F.dropout(x_BTE, self.dropout, self.training)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of both branches."""
        yield from self.attn.matrices(f"{prefix}.attn")
        yield from self.mlp.matrices(f"{prefix}.mlp")
