"""Latent projection (MLA): keys and values grow from cached latents.

Legend: B batch, T tokens, E width, H heads, D = E / H, L latent width.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from gpt2.init import STD, Matrix
from gpt2.settings import ModelSettings


class Latent(nn.Module):
    """q = x W_q + b_q; c^k = x W_dk, c^v = x W_dv; k_h = c^k A_h, v_h = c^v U_h.

    DeepSeek-V2 (2405.04434, section 2.1) without the RoPE part, since positions
    are learned and added to the embedding. Trained expanded: k and v are built
    and meet ordinary attention of width D. Latents carry no bias. A and U start
    with standard deviation 1/sqrt(L), so that scores and outputs have the
    baseline's variance. Cache: c^k and c^v, 2 L values per token and layer.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        E, L = settings.embed, settings.latent
        self.heads = settings.heads
        self.q = nn.Linear(E, E, bias=settings.bias)
        self.kv_down = nn.Linear(E, 2 * L, bias=False)
        self.k_up = nn.Linear(L, E, bias=False)
        self.v_up = nn.Linear(L, E, bias=False)

    def forward(
        self, x_BTE: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q_BTHD, k_BTHD, v_BTHD."""
        B, T, E = x_BTE.shape
        shape = (B, T, self.heads, E // self.heads)
        ck_BTL, cv_BTL = self.kv_down(x_BTE).chunk(2, dim=-1)
        k_BTHD, v_BTHD = self.k_up(ck_BTL).view(shape), self.v_up(cv_BTL).view(shape)
        return self.q(x_BTE).view(shape), k_BTHD, v_BTHD

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices; q as under mha, the two latents by slice."""
        L = self.k_up.in_features
        up_std = 1 / math.sqrt(L)
        down = self.kv_down.weight
        yield Matrix(f"{prefix}.q", self.q.weight, STD, side="attn")
        yield Matrix(f"{prefix}.k_down", down, STD, slice(0, L), side="attn")
        yield Matrix(f"{prefix}.v_down", down, STD, slice(L, 2 * L), side="attn")
        yield Matrix(f"{prefix}.k_up", self.k_up.weight, up_std, side="attn")
        yield Matrix(f"{prefix}.v_up", self.v_up.weight, up_std, side="attn")

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer: c^k and c^v."""
        return self.kv_down.out_features

    def latent_width(self) -> int:
        """L, as built."""
        return self.k_up.in_features
