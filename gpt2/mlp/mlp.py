"""The MLP of a block.

Legend: B batch, T tokens, E width, F MLP width.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.init import STD, Matrix, residual_std
from gpt2.settings import ModelSettings


class Mlp(nn.Module):
    """y = gelu(x W_in + b_in) W_out + b_out, gelu in GPT-2's tanh form."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.inner = nn.Linear(settings.embed, settings.mlp_dim, bias=settings.bias)
        self.outer = nn.Linear(settings.mlp_dim, settings.embed, bias=settings.bias)
        self.out_std = residual_std(settings.layers)

    def forward(self, x_BTE: torch.Tensor) -> torch.Tensor:
        """y_BTE, each position by itself."""
        h_BTF = F.gelu(self.inner(x_BTE), approximate="tanh")
        return self.outer(h_BTF)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """in (F, E) and out, drawn as (F, E): a wider MLP shares its first rows."""
        yield Matrix(f"{prefix}.in", self.inner.weight, STD, side="mlp")
        yield Matrix(
            f"{prefix}.out",
            self.outer.weight,
            self.out_std,
            transposed=True,
            side="mlp",
        )
