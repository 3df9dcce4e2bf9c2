"""The GPT: embeddings, blocks, tied head.

Legend: B batch, T tokens, E width, V padded vocabulary.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.block import Block
from gpt2.init import STD, Matrix
from gpt2.settings import ModelSettings


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019) with the slots that the settings fill.

    The head is tied to the token embedding, whose rows are padded to a
    multiple of 64; a padded row is never a target.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.settings = settings
        self.wte = nn.Embedding(settings.vocab_rows, settings.embed)
        self.wpe = nn.Embedding(settings.block_size, settings.embed)
        self.h = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm_f = nn.LayerNorm(settings.embed, bias=settings.bias)

    def forward(
        self, tokens_BT: torch.Tensor, targets_BT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """logits_BTV, or the mean cross-entropy in nats/token with targets.

        Raises ValueError when T exceeds the context length.
        """
        T = tokens_BT.shape[1]
        if T > self.settings.block_size:
            raise ValueError(
                f"{T} tokens exceed the context of {self.settings.block_size} "
                "(CONFIG_GPT2_BLOCK_SIZE)"
            )
        positions_T = torch.arange(T, device=tokens_BT.device)
        x_BTE = self.wte(tokens_BT) + self.wpe(positions_T)
        x_BTE = F.dropout(x_BTE, self.settings.dropout, self.training)
        for block in self.h:
            x_BTE = block(x_BTE)
        logits_BTV = F.linear(self.norm_f(x_BTE), self.wte.weight)
        if targets_BT is None:
            return logits_BTV
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    def matrices(self) -> Iterator[Matrix]:
        """Every logical matrix, for initial values and for counting."""
        yield Matrix("wte", self.wte.weight, STD)
        yield Matrix("wpe", self.wpe.weight, STD)
        for i, block in enumerate(self.h):
            yield from block.matrices(f"h.{i}")
