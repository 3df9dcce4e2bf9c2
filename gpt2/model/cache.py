"""A sequence that grows at its end in memory set aside for it: what a decode
remembers per token, with no copy of what is already there.

Legend: B batch, n new tokens, S tokens held.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch

FIRST = 64
"""Tokens that the first memory has room for."""


@dataclass(eq=False)
class _Store:
    """memory [B, room, …], of which the first `written` tokens are taken."""

    memory: torch.Tensor
    written: int


@dataclass(frozen=True)
class GrowingCache:
    """The tokens [start, end) of a store: a value.

    Memory is only ever written beyond what any cache reads. `append` writes where
    the store ends exactly where this cache does; a second continuation of the same
    cache finds that place taken and goes on in a copy. So does one that finds no
    room: the room is then the next power of two, at least FIRST, at most `most`
    (the context) unless more is needed, and each token is copied once or twice on
    average however long the text grows. For one thread at a time.
    """

    store: _Store
    start: int
    end: int
    most: int

    @classmethod
    def of(cls, x_BS: torch.Tensor, most: int) -> Self:
        """A cache of those tokens, to which nobody else writes any more."""
        count = x_BS.shape[1]
        return cls(_Store(x_BS, count), 0, count, most)

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def tensor(self) -> torch.Tensor:
        """What it holds, (B, S, …): a view, to be read."""
        return self.store.memory[:, self.start : self.end]

    def append(self, new_Bn: torch.Tensor) -> Self:
        """The cache with these tokens behind it; this one stays what it is.

        Raises ValueError where they are of another shape or type.
        """
        memory, end = self.store.memory, self.end + new_Bn.shape[1]
        kind = memory.shape[:1] + memory.shape[2:], memory.dtype, memory.device
        theirs = new_Bn.shape[:1] + new_Bn.shape[2:], new_Bn.dtype, new_Bn.device
        if kind != theirs:
            raise ValueError(f"a cache of {kind} cannot go on with {theirs}")
        if self.store.written != self.end or end > memory.shape[1]:
            return self._moved(new_Bn.shape[1]).append(new_Bn)
        memory[:, self.end : end] = new_Bn
        self.store.written = end
        return replace(self, end=end)

    def last(self, count: int) -> Self:
        """The last `count` tokens, or all where there are fewer."""
        cache = replace(self, start=max(self.start, self.end - count))
        held = self.store.memory.shape[1]
        return cache._moved(count) if held > 2 * self._room(2 * count) else cache

    def _room(self, needed: int) -> int:
        power = 1 << max(needed - 1, 0).bit_length()
        return max(needed, min(max(power, FIRST), self.most))

    def _moved(self, more: int) -> Self:
        """The same tokens in memory of their own with room for `more`."""
        held, count = self.tensor, len(self)
        room = self._room(count + more)
        memory = held.new_empty(held.shape[0], room, *held.shape[2:])
        memory[:, :count] = held
        return GrowingCache(_Store(memory, count), 0, count, self.most)
