"""The contract of what mixes the tokens of a sequence in a block.

A block is norm, mixer, norm, MLP. Whatever else is to be known of a mixer is asked of
it: nothing outside its own files reads what it is made of. A mixer is one module here,
one of its settings in gpt2/settings/mixers/, one entry of Kconfig and of the tables
CHOSEN of gpt2/model/block.py and gpt2/settings/model.py, one formula in gpt2/check/proofs/by_hand/, one oracle and its
mutants in tests/.

Legend: B batch, n new tokens, T tokens of a sequence, E width, H heads, D = E / H.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import nn

from gpt2.model.initial import Constant, InitialLaw, Matrix
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerCache,
    MixerToMlp,
    Positions,
    Products,
)


class Mixer(nn.Module):
    """y = mixed(x) W_o + b_o: what a block adds to the residual stream first.

    Every output depends on tokens at or before it alone, of its document alone. A
    decode gives what `forward` gives, whatever the chunks.
    """

    kind: ClassVar[str]
    """Its name, as in CONFIG_MIXER_LAYERS."""
    has_probabilities: ClassVar[bool] = False
    """Whether values are mixed with weights that `probabilities` gives."""

    chunk: int | None = None
    """Tokens that its recurrence takes at a time, which no result hangs on; None: it has
    none.
    """

    @abstractmethod
    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: MixerCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, MixerCache | None]:
        """y_BnE, what the MLP of the block reads, and the grown cache (None without
        one). x is normed; context is what the previous block gives.
        """

    @abstractmethod
    def empty_cache(self, x_BnE: torch.Tensor) -> MixerCache:
        """A cache of no tokens, shaped for x."""

    @abstractmethod
    def cache_size(self, tokens: int) -> CacheSize:
        """What a decode holds after so many tokens."""

    @abstractmethod
    def products(self, T: int) -> Products:
        """What training multiplies beside the weights."""

    def recomputed_bytes(self, x_BTE: torch.Tensor, device: str) -> int:
        """The most bytes that the backward pass of such an x, its normed input on a
        device of that type, makes again at once; 0 where forward keeps all it needs.
        """
        return 0

    @abstractmethod
    def keys(self, T: int) -> int:
        """How many tokens an output depends on directly, its own included, at the end
        of a sequence of T.
        """

    @abstractmethod
    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """Its logical matrices."""

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """Where every parameter starts that is neither a matrix nor a bias."""
        yield from ()

    def late(self, prefix: str) -> Iterator[str]:
        """Logical matrices, and other parameters by their own names, whose gradient is 0
        at the initial values: what reads them starts at 0.
        """
        yield from ()

    def reads(self, cache: MixerCache, tokens: int) -> dict[str, float]:
        """Keys that each of the `tokens` of a decode's first sequence has read on average, by branch,
        counted where they were read; nothing of a mixer that does not choose.
        """
        return {}

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What was built, read off its tensors, by the names of gpt2.model.costs.Facts."""

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """What its heads do with x, its normed input; nothing where it has none."""
        return {}

    def maps(
        self, x_BTE: torch.Tensor, positions: Positions
    ) -> dict[str, torch.Tensor]:
        """Pictures of what it does with the first sequence of x, its normed input, queries
        down; nothing where it has none.
        """
        return {}

    def probabilities(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> torch.Tensor:
        """The weights p_BHTT that values are mixed with, by reference; of a mixer that
        `has_probabilities`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no probabilities")
