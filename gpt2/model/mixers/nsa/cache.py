"""What a decode of native sparse attention remembers of one layer.

Legend: B batch, S tokens so far, C compression blocks, G key/value heads, D head width.
"""

from typing import NamedTuple

import torch

from gpt2.model.cache import GrowingCache

Stores = tuple[GrowingCache, ...]


class NsaCache(NamedTuple):
    """Keys and values, each (B, …, G, D).

    tokens: of all tokens, for the selected branch. blocks: of the compression blocks so
    far, keys alone where they serve the choice alone. window: of the last w tokens.
    pending: of the tokens from the first of the next compression block on, as φ reads
    them; l - 1 at most. What `tokens` hold already, where the branches share keys and
    values, is in none of the others. reads_B3: keys that every query so far has read in
    the three branches, added up; no part of what the text is continued from.
    """

    tokens: Stores
    blocks: Stores
    window: Stores
    pending: Stores
    reads_B3: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """All it holds of the text, without the room that is set aside."""
        stores = (*self.tokens, *self.blocks, *self.window, *self.pending)
        return [store.tensor for store in stores]


def appended(stores: Stores, new: tuple[torch.Tensor, ...]) -> Stores:
    """Each with the new tokens behind it."""
    return tuple(store.append(x) for store, x in zip(stores, new, strict=True))


def last(stores: Stores, count: int) -> Stores:
    """The last `count` of each."""
    return tuple(store.last(count) for store in stores)


def held(stores: Stores, first: int = 0) -> tuple[torch.Tensor, ...]:
    """What each holds, from the place `first` on."""
    return tuple(store.tensor[:, first:] for store in stores)
