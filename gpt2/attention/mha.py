"""Multi-head projection: q, k and v from one fused product.

Legend: B batch, T tokens, E width, H heads, D = E / H.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.init import STD, Matrix
from gpt2.settings import ModelSettings


class MultiHead(nn.Module):
    """q, k, v = x W_q + b_q, x W_k + b_k, x W_v + b_v (Vaswani et al. 2017).

    Cache: k and v, 2 E values per token and layer.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.heads = settings.heads
        self.qkv = nn.Linear(settings.embed, 3 * settings.embed, bias=settings.bias)

    def forward(
        self, x_BTE: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q_BTHD, k_BTHD, v_BTHD: strided views of the fused product."""
        B, T, E = x_BTE.shape
        qkv_BT3HD = self.qkv(x_BTE).view(B, T, 3, self.heads, E // self.heads)
        return qkv_BT3HD.unbind(dim=2)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices, as slices of the fused one."""
        E = self.qkv.in_features
        for i, name in enumerate(("q", "k", "v")):
            rows = slice(i * E, (i + 1) * E)
            yield Matrix(f"{prefix}.{name}", self.qkv.weight, STD, rows, side="attn")

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer: k and v."""
        return 2 * self.qkv.in_features

    def latent_width(self) -> None:
        """No latent."""
        return None
