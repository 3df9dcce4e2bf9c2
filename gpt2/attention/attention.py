"""The attention of a block: a projection, the core, the output product."""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.attention.core import attend, resolve
from gpt2.attention.mha import MultiHead
from gpt2.attention.mla import Latent
from gpt2.init import Matrix, residual_std
from gpt2.settings import ModelSettings

PROJECTIONS = {"mha": MultiHead, "mla": Latent}


class Attention(nn.Module):
    """y = concat_h(o_h) W_o + b_o with o = core(projection(x)).

    W_o starts with 0.02 / sqrt(2 layers), as every product that writes to the
    residual stream.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        E = settings.embed
        self.projection = PROJECTIONS[settings.attention.projection](settings)
        self.o = nn.Linear(E, E, bias=settings.bias)
        self.impl = resolve(settings.attention.impl)
        self.dropout = settings.dropout
        self.out_std = residual_std(settings.layers)

    def forward(self, x_BTE: torch.Tensor) -> torch.Tensor:
        """y_BTE; strictly causal."""
        q_BTHD, k_BTHD, v_BTHD = self.projection(x_BTE)
        dropout = self.dropout if self.training else 0.0
        o_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, self.impl, dropout)
        return self.o(o_BTHD.flatten(2))

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of the projection, then o."""
        yield from self.projection.matrices(prefix)
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
