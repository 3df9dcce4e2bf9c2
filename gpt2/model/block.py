"""One transformer block, pre-norm."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Matrix
from gpt2.model.mixers.attention.attention import Attention
from gpt2.model.mlp.mlp import Mlp
from gpt2.model.norm import added, build_norm
from gpt2.model.values import BlockToBlock, LayerCache
from gpt2.settings.run import ModelSettings


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) (GPT-2, section 2.3).

    What a block reads from the previous one and gives the next one is a value:
    an argument and a result of forward.
    """

    def __init__(self, settings: ModelSettings, last: bool, decoder: str = "reference"):
        super().__init__()
        self.norm1 = build_norm(settings)
        self.attn = Attention(settings, decoder)
        self.norm2 = build_norm(settings)
        self.mlp = Mlp(settings, last)
        self.dropout = settings.dropout

    def forward(
        self,
        x_BnE: torch.Tensor,
        y_BnE: torch.Tensor | None,
        context: BlockToBlock,
        start: int = 0,
        cache: LayerCache | None = None,
        starts_BT: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, BlockToBlock, LayerCache | None]:
        """The residual stream, the context for the next block, the grown cache.

        The stream is x + y, on the way in and out: y is what the last branch adds
        (None: nothing yet), and the next norm reads both in the pass that adds them.
        starts_BT: the first token of every token's document, None where a sequence
        is one; not with a cache.
        """
        attention, mlp = cache or (None, None)
        x_BnE, normed_BnE = added(self.norm1, x_BnE, y_BnE)
        y_BnE, side, attention = self.attn(normed_BnE, context, attention, starts_BT)
        x_BnE, normed_BnE = added(self.norm2, x_BnE, self._drop(y_BnE))
        y_BnE, context, mlp = self.mlp(normed_BnE, side, start, mlp, starts_BT)
        cache = None if cache is None else LayerCache(attention, mlp)
        return x_BnE, self._drop(y_BnE), context, cache

    def _drop(self, x_BnE: torch.Tensor) -> torch.Tensor:
        return F.dropout(x_BnE, self.dropout, self.training)

    def empty_cache(self, x_BnE: torch.Tensor) -> LayerCache:
        """A cache of no tokens, shaped for x."""
        return LayerCache(self.attn.empty_cache(x_BnE), self.mlp.empty_cache(x_BnE))

    def cache_per_token(self) -> int:
        """Values a decode caches per token."""
        return self.attn.projection.cache_per_token() + self.mlp.cache_per_token()

    def cache_constant(self) -> int:
        """Values a decode keeps whatever the length."""
        return self.attn.cache_constant() + self.mlp.cache_constant()

    def products(self, T: int) -> tuple[int, int]:
        """Multiply-adds of a token that no parameter accounts for: with all T tokens
        of a sequence, and others.
        """
        attention, mlp = self.attn.products(T), self.mlp.products(T)
        return attention[0] + mlp[0], attention[1] + mlp[1]

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of both branches."""
        yield from self.attn.matrices(f"{prefix}.attn")
        yield from self.mlp.matrices(f"{prefix}.mlp")
