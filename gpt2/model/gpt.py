"""The GPT: embeddings, blocks, tied head.

Legend: B batch, T tokens, n new tokens of a decode, E width, V padded vocabulary.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.block import Block
from gpt2.model.initial import STD, Constant, InitialLaw, Matrix
from gpt2.model.norm import build_norm
from gpt2.model.values import BlockToBlock, Cache, Positions
from gpt2.settings.run import ModelSettings
from kernels.linear_cross_entropy import chunked_losses, linear_cross_entropy
from kernels.linear_cross_entropy import plain, plain_losses


def resolve_loss(choice: str, kind: str) -> str:
    """The loss that computes a training step on a kind of device: `auto` is
    chunked on a GPU, plain on a CPU.
    """
    if choice != "auto":
        return choice
    return "chunked" if kind == "cuda" else "plain"


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019) with the slots that the settings fill.

    The head is tied to the token embedding, whose rows are padded to a
    multiple of 64; a padded row is never a target. decoder: what computes the
    attention of `decode`, as gpt2/model/mixers/attention/decoder.py resolves it.
    """

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        self.settings, self.decoder = settings, decoder
        learned = settings.position == "learned"
        self.wte = nn.Embedding(settings.vocab_rows, settings.embed)
        self.wpe = (
            nn.Embedding(settings.block_size, settings.embed) if learned else None
        )
        self.h = nn.ModuleList(
            Block(settings, layer, decoder) for layer in range(settings.depth)
        )
        self.norm_f = build_norm(settings)

    def forward(
        self,
        tokens_BT: torch.Tensor,
        targets_BT: torch.Tensor | None = None,
        starts_BT: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """logits_BTV, or the mean cross-entropy in nats/token with targets.

        starts_BT: int32, the first token of every token's document (non-decreasing,
        at most t). Nothing at t then depends on what lies before it, and learned
        positions count from there: documents packed into a sequence have the logits
        that each has alone. None: a sequence is one document.

        Raises ValueError when T exceeds the context length.
        """
        return self.head(self._before_head(tokens_BT, starts_BT), targets_BT)

    def head(
        self, x_BTE: torch.Tensor, targets_BT: torch.Tensor | None
    ) -> torch.Tensor:
        """The same of x, what the head reads."""
        if targets_BT is None:
            return F.linear(x_BTE, self.wte.weight)
        x_NE, target_N = x_BTE.flatten(0, 1), targets_BT.flatten()
        loss = linear_cross_entropy if self._chunked(x_NE) else plain
        return loss(x_NE, self.wte.weight, target_N)

    @torch.no_grad()
    def losses(
        self,
        tokens_BT: torch.Tensor,
        targets_BT: torch.Tensor,
        starts_BT: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean as `forward` gives it, bit for bit, and loss_BT, of every target."""
        x_NE = self._before_head(tokens_BT, starts_BT).flatten(0, 1)
        each = chunked_losses if self._chunked(x_NE) else plain_losses
        mean, loss_N = each(x_NE, self.wte.weight, targets_BT.flatten())
        return mean, loss_N.view_as(targets_BT)

    def _before_head(
        self, tokens_BT: torch.Tensor, starts_BT: torch.Tensor | None
    ) -> torch.Tensor:
        """x_BTE, what the head reads."""
        positions = Positions(0, starts_BT)
        x_BTE, y_BTE, context = self.embed(tokens_BT, positions), None, BlockToBlock()
        for block in self.h:
            x_BTE, y_BTE, context, _ = block(x_BTE, y_BTE, context, positions)
        return self.normed(x_BTE, y_BTE)

    def normed(self, x_BTE: torch.Tensor, y_BTE: torch.Tensor) -> torch.Tensor:
        """What the head reads of the last block's stream, x + y."""
        # Not `added`: torch 2.11's compiler prints the arguments of an op that is new to
        # it, here the loss; between kernels alone the text doubles with every norm.
        return self.norm_f(x_BTE + y_BTE)

    def _chunked(self, x_NE: torch.Tensor) -> bool:
        return resolve_loss(self.settings.loss, x_NE.device.type) == "chunked"

    @torch.no_grad()
    def decode(
        self, tokens_Bn: torch.Tensor, cache: Cache | None = None
    ) -> tuple[torch.Tensor, Cache]:
        """logits_BnV of new tokens after those in the cache, and the grown cache.

        Equal to `forward` on all tokens, whatever the chunks. Without a cache it
        begins a text. Raises ValueError when the context length is exceeded.
        """
        positions = Positions(cache.length if cache else 0)
        x_BnE, y_BnE, context = self.embed(tokens_Bn, positions), None, BlockToBlock()
        kept = cache.layers if cache else [b.empty_cache(x_BnE) for b in self.h]
        layers = []
        for block, layer in zip(self.h, kept):
            given = block(x_BnE, y_BnE, context, positions, layer)
            x_BnE, y_BnE, context, layer = given
            layers.append(layer)
        grown = Cache(positions.start + tokens_Bn.shape[1], tuple(layers))
        return F.linear(self.normed(x_BnE, y_BnE), self.wte.weight), grown

    def embed(self, tokens_Bn: torch.Tensor, positions: Positions) -> torch.Tensor:
        """What the first block reads: x_BnE of tokens at those positions.

        Raises ValueError when the context length is exceeded.
        """
        start, starts_BT = positions
        total = start + tokens_Bn.shape[1]
        if total > self.settings.block_size:
            raise ValueError(
                f"{total} tokens exceed the context of {self.settings.block_size} "
                "(CONFIG_GPT2_BLOCK_SIZE)"
            )
        x_BnE = self.wte(tokens_Bn)
        if self.wpe is not None:
            place_n = torch.arange(start, total, device=x_BnE.device)
            place_n = place_n if starts_BT is None else place_n - starts_BT
            x_BnE = x_BnE + self.wpe(place_n)
        return F.dropout(x_BnE, self.settings.dropout, self.training)

    def matrices(self) -> Iterator[Matrix]:
        """Every logical matrix, for initial values and for counting."""
        yield Matrix("wte", self.wte.weight, STD)
        if self.wpe is not None:
            yield Matrix("wpe", self.wpe.weight, STD)
        for i, block in enumerate(self.h):
            yield from block.matrices(f"h.{i}")

    def initial_laws(self) -> Iterator[Constant | InitialLaw]:
        """Where every parameter starts that is neither a matrix nor a bias."""
        for i, block in enumerate(self.h):
            yield from block.initial_laws(f"h.{i}")
        yield Constant("norm_f.weight", self.norm_f.weight, 1.0)

    def late(self) -> Iterator[str]:
        """Of all blocks, see Mixer."""
        for i, block in enumerate(self.h):
            yield from block.late(f"h.{i}")
