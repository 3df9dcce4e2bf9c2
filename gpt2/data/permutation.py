"""A keyed permutation of 0..n-1 that needs no table.

A balanced Feistel network permutes 0..4^k-1, the next power of four at or
above n; a result outside 0..n-1 is put through again until it falls inside
(cycle walking), which leaves a permutation of 0..n-1. Any element costs O(1)
time and memory, so an epoch of any length is shuffled without being listed.

Black & Rogaway 2002, "Ciphers with arbitrary finite domains".
"""

import hashlib

import numpy as np


class Permutation:
    """The permutation of 0..size-1 that belongs to a key."""

    def __init__(self, size: int, key: str):
        """size: at least 1. key: any text; eight round keys are its sha256."""
        if size < 1:
            raise ValueError(f"a permutation of {size} elements, expected at least 1")
        self.size = size
        half_bits = -(-(size - 1).bit_length() // 2)
        self._half = np.uint64(half_bits)
        self._mask = np.uint64((1 << half_bits) - 1)
        digest = hashlib.sha256(key.encode("utf-8")).digest()
        self._keys = np.frombuffer(digest, "<u4").astype(np.uint64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """Where each index goes; int64, the shape of `index`.

        Raises IndexError for an index outside 0..size-1.
        """
        index = np.asarray(index, np.int64)
        if index.size and not 0 <= index.min() <= index.max() < self.size:
            raise IndexError(
                f"indices {index.min()}..{index.max()}, expected 0..{self.size - 1}"
            )
        flat = index.ravel().astype(np.uint64)
        outside = np.arange(len(flat))
        while len(outside):
            flat[outside] = self._network(flat[outside])
            outside = outside[flat[outside] >= self.size]
        return flat.astype(np.int64).reshape(index.shape)

    def _network(self, value: np.ndarray) -> np.ndarray:
        left, right = value >> self._half, value & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right, key) & self._mask)
        return left << self._half | right


def _mix(value: np.ndarray, key: np.uint64) -> np.ndarray:
    """64 well-mixed bits of (value, key): the finaliser of splitmix64."""
    x = value ^ (key << np.uint64(32) | key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
