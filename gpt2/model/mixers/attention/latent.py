"""Latent projection (MLA): keys and values grow from cached latents.

Legend: B batch, n new tokens, S tokens so far, E width, H heads, D = E / H,
L latent width.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import Matrix, STD
from gpt2.settings.run import ModelSettings

Memory = tuple[torch.Tensor, ...]


class Latent(nn.Module):
    """q = x W_q + b_q; c^k = x W_dk, c^v = x W_dv; k_h = c^k A_h, v_h = c^v U_h.

    DeepSeek-V2 (2405.04434, section 2.1) without the RoPE part, since positions
    are learned and added to the embedding. Trained expanded: k and v are built
    and meet ordinary attention of width D. Decoded absorbed: q A_h^T meets the
    latents themselves. Latents carry no bias. A and U start with standard
    deviation 1/sqrt(L), so that scores and outputs have the baseline's variance.
    Options: one latent for both (c^v = c^k), one A and U for all heads. Memory:
    (c^k, c^v), 2 L values per token and layer, or (c,) and L.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        E, L, options = settings.embed, settings.latent, settings.attention
        self.heads = self.kv_heads = settings.heads
        self.head_width = settings.head_width
        up = self.head_width if options.mla_shared_up else E
        self.q = nn.Linear(E, E, bias=settings.bias)
        self.down = nn.Linear(E, L if options.mla_shared_latent else 2 * L, bias=False)
        self.k_up = nn.Linear(L, up, bias=False)
        self.v_up = nn.Linear(L, up, bias=False)

    packs = False

    def forward(
        self, x_BnE: torch.Tensor, latent_BnL: torch.Tensor | None, start: int
    ) -> tuple[torch.Tensor, Memory]:
        """q_BnHD and the latents of the new tokens.

        latent_BnL, from the previous block's MLP, is added to c^k.
        """
        q_BnHD = self.q(x_BnE).unflatten(2, (self.heads, self.head_width))
        ck_BnL, *rest = self.down(x_BnE).split(self.k_up.in_features, dim=-1)
        if latent_BnL is not None:
            ck_BnL = ck_BnL + latent_BnL
        return q_BnHD, (ck_BnL, *rest)

    def expand(self, memory: Memory) -> Memory:
        """k_BSHD, v_BSHD of those tokens."""
        k, v = self.k_up(memory[0]), self.v_up(memory[-1])
        return self._heads(k), self._heads(v)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        x_BSuD = x.unflatten(2, (-1, self.head_width))
        return x_BSuD.expand(-1, -1, self.heads, -1)

    def scores(self, q_BnHD: torch.Tensor, memory: Memory) -> torch.Tensor:
        """s_BHnS, absorbed: (q A_h^T) · c^k / sqrt(D), no key is built."""
        s_BHnS = torch.einsum("bthl,bsl->bhts", self.decode_query(q_BnHD), memory[0])
        return s_BHnS / math.sqrt(self.head_width)

    def mix(self, p_BHnS: torch.Tensor, memory: Memory) -> torch.Tensor:
        """o_BnHD, absorbed: (p · c^v) U_h, no value is built."""
        c_BnHL = torch.einsum("bhts,bsl->bthl", p_BHnS.to(memory[-1].dtype), memory[-1])
        return self.decode_output(c_BnHL)

    def decode_query(self, q_BnHD: torch.Tensor) -> torch.Tensor:
        """q A_h^T, (B, n, H, L): what meets the key latents."""
        return torch.einsum("bthd,hdl->bthl", q_BnHD, self._per_head(self.k_up))

    def decode_output(self, c_BnHL: torch.Tensor) -> torch.Tensor:
        """o_BnHD = c U_h of mixed value latents."""
        return torch.einsum("bthl,hdl->bthd", c_BnHL, self._per_head(self.v_up))

    def decode_keys_values(self, memory: Memory) -> Memory:
        """The latents as keys and values of one head, (B, S, 1, L)."""
        return memory[0][:, :, None], memory[-1][:, :, None]

    def _per_head(self, up: nn.Linear) -> torch.Tensor:
        weight_uDL = up.weight.unflatten(0, (-1, self.head_width))
        return weight_uDL.expand(self.heads, -1, -1)

    def latent(self, memory: Memory) -> torch.Tensor:
        """c^k."""
        return memory[0]

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices; q as under mha, two latents by slice."""
        L, down = self.k_up.in_features, self.down.weight
        std = 1 / math.sqrt(L)
        yield Matrix(f"{prefix}.q", self.q.weight, STD, side="attn")
        yield Matrix(f"{prefix}.k_down", down, STD, slice(0, L), side="attn")
        if down.shape[0] == 2 * L:
            yield Matrix(f"{prefix}.v_down", down, STD, slice(L, 2 * L), side="attn")
        yield Matrix(f"{prefix}.k_up", self.k_up.weight, std, side="attn")
        yield Matrix(f"{prefix}.v_up", self.v_up.weight, std, side="attn")

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer: the latents."""
        return self.down.out_features

    def latent_width(self) -> int:
        """L, as built."""
        return self.k_up.in_features
