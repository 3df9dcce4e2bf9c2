"""Which tokens a run reads, from the texts of its corpus: Python's numbers alone.

Written from the docstrings of gpt2/data; shares no code with gpt2/. Tokens are
UTF-8 bytes, a separator ends every document.

Legend: T context, W windows of an epoch.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from itertools import count

SEPARATOR = 256
WORD = 2**64


def tokens_of(texts: Sequence[str]) -> list[int]:
    """Their bytes, a separator after each."""
    return [token for text in texts for token in (*text.encode(), SEPARATOR)]


def split(texts: Sequence[str], fraction: float, which: str) -> list[str]:
    """The texts of "train" or "val": by sha256, the first 8 bytes over 2^64."""
    return [
        text for text in texts if _is_validation(text, fraction) == (which == "val")
    ]


def _is_validation(text: str, fraction: float) -> bool:
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / WORD < fraction


def place(index: int, size: int, key: str) -> int:
    """Where the permutation of 0 … size-1 with that key takes the index: eight rounds
    of a Feistel network, walked until the result is inside.
    """
    bits = ((size - 1).bit_length() + 1) // 2
    rounds = struct.unpack("<8I", hashlib.sha256(key.encode()).digest())
    while True:
        left, right = index >> bits, index % 2**bits
        for word in rounds:
            left, right = right, left ^ _mixed(right ^ (word * 2**32 + word)) % 2**bits
        index = left * 2**bits + right
        if index < size:
            return index


def _mixed(x: int) -> int:
    """The finaliser of splitmix64."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def permuted(items: Sequence, key: str) -> list:
    """The items in the order of the key."""
    return [items[place(i, len(items), key)] for i in range(len(items))]


def training_row(tokens: Sequence[int], T: int, seed: int, sample: int) -> list[int]:
    """Sample `sample` of a packed split: T + 1 tokens."""
    W = max(len(tokens) // T - 1, 1)
    epoch, index = divmod(sample, W)
    digest = hashlib.sha256(f"data:{seed}:{epoch}:offset".encode()).digest()
    offset = struct.unpack("<Q", digest[:8])[0] % min(T, len(tokens) - W * T)
    start = offset + T * place(index, W, f"data:{seed}:{epoch}")
    return list(tokens[start : start + T + 1])


def evaluation_rows(tokens: Sequence[int], T: int, wanted: int) -> list[list[int]]:
    """The fixed windows, evenly over the validation split."""
    available = (len(tokens) - 1) // T
    number = min(wanted, available)
    starts = [j * available // number * T for j in range(number)]
    return [list(tokens[start : start + T + 1]) for start in starts]


def live_tokens(
    texts: Sequence[str],
    fraction: float,
    seed: int,
    shuffle_seed: int,
    block: int,
    epoch_tokens: int,
) -> Iterator[int]:
    """The endless training tokens of a corpus that is read on the fly.

    Blocks of texts in the order of the corpus, shuffled by the corpus' seed; of a
    block the training documents, in an order of (seed, epoch, number from 1).
    epoch_tokens: an epoch ends with the block that reaches it, 0: with the corpus.
    """
    for epoch in count():
        read = 0
        for first in range(0, len(texts), block):
            number = first // block
            part = permuted(
                texts[first : first + block], f"shuffle:{shuffle_seed}:{number}"
            )
            kept = split(part, fraction, "train")
            kept = permuted(kept, f"feed:{seed}:{epoch}:{number + 1}")
            yield from tokens_of(kept)
            read += len(tokens_of(kept))
            if epoch_tokens and read >= epoch_tokens:
                break


def starts(row: Sequence[int], separator: int = SEPARATOR) -> list[int]:
    """The first token of every token's document: the last separator at or before it."""
    found, first = [], 0
    for t, token in enumerate(row):
        first = t if token == separator else first
        found.append(first)
    return found
