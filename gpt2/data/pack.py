"""From pieces of documents to tokens in shards, encoded on all cores.

Texts are gathered into batches, a batch is encoded by a pool of threads (the
tokenizers compute outside Python's lock) and appended in order, so the shards
do not depend on the number of cores.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from gpt2.data.splits import Piece
from gpt2.data.tokenizers import Tokenizer, TokenizerError, cut
from gpt2.data.writer import ShardWriter

ENCODE_BYTES = 1 << 20
BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class Part:
    """A slice of a piece; `piece_bytes` is set on the piece's last slice."""

    split: str
    text: memoryview
    ends: bool
    name: str
    piece_bytes: int | None


class Packer:
    """Appends pieces to the writers of their split, in order.

    The first pieces of a split are skipped as long as they lie in the shards
    that its writer found finished; `skip` says how many those are.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        writers: Mapping[str, ShardWriter],
        skip: Mapping[str, int],
    ):
        self.tokenizer, self.writers, self._skip = tokenizer, writers, dict(skip)
        self._batch: list[Part] = []
        self._bytes = 0
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "encode")

    def add(self, piece: Piece) -> None:
        """One piece. Raises TokenizerError that names the document."""
        split, text, ends, name = piece
        if self._skip[split]:
            self._skip[split] -= 1
            return
        start = 0
        while start < len(text):
            stop = start + cut(text[start:], ENCODE_BYTES)
            last = len(text) if stop == len(text) else None
            part = Part(split, text[start:stop], ends and last is not None, name, last)
            self._batch.append(part)
            start = stop
        self._bytes += len(text)
        if self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Encode and append what was gathered."""
        for part, tokens in zip(self._batch, self._pool.map(self._encode, self._batch)):
            writer = self.writers[part.split]
            writer.append(tokens)
            if part.ends:
                writer.append([self.tokenizer.eot])
            if part.piece_bytes is not None:
                writer.end_document(part.piece_bytes)
        self._batch, self._bytes = [], 0

    def finish(self) -> None:
        """Append what was gathered and end the last shard of each split."""
        self.flush()
        for writer in self.writers.values():
            writer.finish()

    def close(self) -> None:
        """Stop the threads and let go of unfinished shards."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for writer in self.writers.values():
            writer.close()

    def _encode(self, part: Part) -> np.ndarray:
        try:
            return self.tokenizer.encode(part.text)
        except TokenizerError as error:
            raise TokenizerError(f"{part.name}: {error}") from error
