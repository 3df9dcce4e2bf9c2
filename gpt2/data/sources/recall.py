"""Multi-query associative recall (Arora et al. 2023, 2312.04927) as rows of bytes.

A row of T tokens is T - 1 bytes and the separator:

    k_1 v_1 … k_N v_N   q_1 a_1 q_2 a_2 …   separator

The N keys are different, the values any. Every query is one of the keys and its answer
the value that stands behind that key. The queries are the keys in a new random order,
again and again until the row is full; where one byte is left, a query ends the row.
The first N queries are the first round: in it each key is asked for once at most, and
no answer was given before.

Keys are the bytes 0 … K-1, values 128 … 128+V-1. Row r is a function of (VERSION, seed,
r) alone; its N is pairs[r mod len(pairs)]. What differs from the paper: the queries
follow each other without filler, and the shorter rows ask more than once.

Legend: T tokens of a row, N pairs, K keys, V values.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VERSION = 1
"""Of the rows: another one for every change that makes other bytes."""
FIRST_VALUE = 128
"""Bytes below are keys."""


@dataclass(frozen=True)
class Row:
    """text: the T - 1 bytes. answers: where the answers of the first round stand."""

    text: bytes
    answers: tuple[int, ...]


def recall_row(
    seed: int | str, number: int, pairs: int, keys: int, values: int, length: int
) -> Row:
    """Row `number` of a seed, of `length` tokens with the separator.

    Raises ValueError where the row has no room for one query and its answer, or there
    are more pairs than keys.
    """
    if pairs > keys or 2 * pairs + 3 > length:
        raise ValueError(
            f"{pairs} pairs need as many keys and {2 * pairs + 3} tokens, there are "
            f"{keys} and {length}"
        )
    random = np.random.default_rng(_entropy(seed, number))
    text = np.empty(length - 1, np.uint8)
    key_N = random.permutation(keys)[:pairs]
    value_N = FIRST_VALUE + random.integers(0, values, pairs)
    text[0 : 2 * pairs : 2], text[1 : 2 * pairs : 2] = key_N, value_N
    room = length - 1 - 2 * pairs
    rounds = -(-room // (2 * pairs))
    asked = np.concatenate([random.permutation(pairs) for _ in range(rounds)])
    queries = np.stack([key_N[asked], value_N[asked]], axis=1).ravel()
    text[2 * pairs :] = queries[:room]
    first = range(2 * pairs + 1, min(4 * pairs, length - 1), 2)
    return Row(text.tobytes(), tuple(first))


def _entropy(seed: int | str, number: int) -> int:
    """What the random numbers of a row begin with."""
    key = f"recall:{VERSION}:{seed}:{number}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:16], "little")


def recall_documents(
    rows: int, seed: int, pairs: tuple[int, ...], keys: int, values: int, length: int
) -> Iterator[tuple[str, bytes]]:
    """(name, text) of the rows 0 … rows-1; pairs: N of the rows, in turn."""
    for number in range(rows):
        n = pairs[number % len(pairs)]
        text = recall_row(seed, number, n, keys, values, length).text
        yield f"recall row {number}", text
