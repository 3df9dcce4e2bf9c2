"""Multi-head and grouped-query projection: q, k and v from one fused product.

Legend: B batch, n new tokens, S tokens so far, E width, H query heads, G
key/value heads, D = E / H.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import Matrix, STD
from gpt2.model.rope import rotate
from gpt2.settings.run import ModelSettings
from kernels.attention import mix, scores

Memory = tuple[torch.Tensor, ...]


class MultiHead(nn.Module):
    """q, k, v = x W_q + b_q, x W_k + b_k, x W_v + b_v (Vaswani et al. 2017), with
    G < H shared key/value heads (2305.13245).

    Memory: (k_BSGD, v_BSGD), 2 G D values per token and layer; keys are rotated
    before they are kept.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.heads, self.kv_heads = settings.heads, settings.kv_heads
        self.head_width = settings.head_width
        self.rope_base = settings.rope_base
        width = (self.heads + 2 * self.kv_heads) * self.head_width
        self.qkv = nn.Linear(settings.embed, width, bias=settings.bias)

    def forward(
        self, x_BnE: torch.Tensor, latent_BnL: None, start: int
    ) -> tuple[torch.Tensor, Memory]:
        """q_BnHD and the memory of the new tokens, which begin at `start`."""
        H, G = self.heads, self.kv_heads
        q_BnHD, k_BnGD, v_BnGD = self.packed(x_BnE).split([H, G, G], dim=2)
        if self.rope_base is not None:
            q_BnHD = rotate(q_BnHD, start, self.rope_base)
            k_BnGD = rotate(k_BnGD, start, self.rope_base)
        return q_BnHD, (k_BnGD, v_BnGD)

    @property
    def packs(self) -> bool:
        """Whether attention can read q, k and v as the product leaves them."""
        return self.rope_base is None

    def packed(self, x_BnE: torch.Tensor) -> torch.Tensor:
        """qkv_BnND, N = H + 2 G: queries, keys, values."""
        return self.qkv(x_BnE).unflatten(2, (-1, self.head_width))

    def expand(self, memory: Memory) -> Memory:
        """k_BSGD, v_BSGD."""
        return memory

    def scores(self, q_BnHD: torch.Tensor, memory: Memory) -> torch.Tensor:
        """s_BHnS against everything in the memory."""
        return scores(q_BnHD, memory[0])

    def mix(self, p_BHnS: torch.Tensor, memory: Memory) -> torch.Tensor:
        """o_BnHD."""
        return mix(p_BHnS, memory[1])

    def decode_query(self, q_BnHD: torch.Tensor) -> torch.Tensor:
        """What meets the keys of the memory: q."""
        return q_BnHD

    def decode_output(self, o_BnHD: torch.Tensor) -> torch.Tensor:
        """o of mixed values: those."""
        return o_BnHD

    def decode_keys_values(self, memory: Memory) -> Memory:
        """k_BSGD, v_BSGD."""
        return memory

    def latent(self, memory: Memory | None) -> None:
        """No latent."""
        return None

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices, as slices of the fused one."""
        first, weight = 0, self.qkv.weight
        heads = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        for name, count in heads.items():
            rows = slice(first, first + count * self.head_width)
            yield Matrix(f"{prefix}.{name}", weight, STD, rows, side="attn")
            first = rows.stop

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer: k and v."""
        return 2 * self.kv_heads * self.head_width

    def latent_width(self) -> None:
        """No latent."""
        return None
