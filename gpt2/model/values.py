"""What flows through a forward pass, and what a decode remembers: values, never state.

Legend: B batch, n new tokens, S tokens so far, H heads, L latent width.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from gpt2.model.cache import GrowingCache


class Positions(NamedTuple):
    """Where the tokens of a forward pass stand, for every layer alike.

    start: the position of the first of them, not 0 in a decode alone. starts_BT: int32,
    the first token of every token's document, None where a sequence is one.
    """

    start: int = 0
    starts_BT: torch.Tensor | None = None


class BlockToBlock(NamedTuple):
    """From a block to the next one of the same forward pass.

    gate_BnH: scale of each head's output, (1-α) + αγ. latent_BnL: what is added
    to the next block's key latent. None where no mechanism makes it.
    """

    gate_BnH: torch.Tensor | None = None
    latent_BnL: torch.Tensor | None = None


class Routed(NamedTuple):
    """The k keys of every query with the largest head-averaged probabilities, and
    those: int32 and fp32, constants.
    """

    index_BTk: torch.Tensor
    weight_BTk: torch.Tensor


class MixerToMlp(NamedTuple):
    """From a block's mixer to its MLP.

    routing_BnS: head-averaged probabilities, seen_n the number of keys that are
    visible (seen_Bn where sequences hold documents); or routed, what the top-k
    routing keeps of them; latent_BnL: the (updated) key latents of the new tokens.
    None where no mechanism reads them.
    """

    routing_BnS: torch.Tensor | None = None
    seen_n: torch.Tensor | None = None
    routed: Routed | None = None
    latent_BnL: torch.Tensor | None = None


class Products(NamedTuple):
    """Multiply-adds of a token by what is no weight. full: at the end of a sequence,
    with every key that a query may see; causal: the mean over a sequence.
    """

    full: float = 0
    causal: float = 0


def mean_keys(T: int, keys: int) -> float:
    """Keys that a query of a sequence of T sees on average where none sees more than
    `keys`: W - W²/2T, which is T/2 without a window (PaLM, 2204.02311, appendix B).
    """
    return keys - keys * keys / (2 * T)


@dataclass(frozen=True)
class CacheSize:
    """What a decode holds for one sequence: values in the type of the weights, and
    values that are fp32 whatever that type is.
    """

    values: int = 0
    fp32: int = 0

    def __add__(self, other: "CacheSize") -> "CacheSize":
        return CacheSize(self.values + other.values, self.fp32 + other.fp32)

    @property
    def total(self) -> int:
        """Values of either kind."""
        return self.values + self.fp32

    def bytes(self, element: int) -> int:
        """Bytes where a value of the weights' type takes `element`."""
        return element * self.values + 4 * self.fp32


class MixerCache(Protocol):
    """What a mixer remembers of one layer."""

    def tensors(self) -> list[torch.Tensor]:
        """All it holds, [B, …] each, without the room that is set aside."""


class MlpCache(NamedTuple):
    """Of one layer. total_Br: fp32 sum of the gate contexts so far; mixed: h W_down
    of every token, (B, S, r), for the cross-token MLP.
    """

    total_Br: torch.Tensor | None
    mixed: GrowingCache | None

    def tensors(self) -> list[torch.Tensor]:
        """All it holds, without the room that is set aside."""
        found = (self.total_Br, None if self.mixed is None else self.mixed.tensor)
        return [tensor for tensor in found if tensor is not None]


class LayerCache(NamedTuple):
    """Of one layer."""

    mixer: MixerCache
    mlp: MlpCache

    def tensors(self) -> list[torch.Tensor]:
        """All it holds, without the room that is set aside."""
        return [*self.mixer.tensors(), *self.mlp.tensors()]


class Cache(NamedTuple):
    """Of the whole model: tokens so far and one LayerCache per block."""

    length: int
    layers: tuple[LayerCache, ...]
