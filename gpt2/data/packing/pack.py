"""From pieces of documents to tokens in shards, encoded on all cores.

Texts are gathered into batches, a batch is encoded by a pool of threads (the
tokenizers compute outside Python's lock) and appended in order, so the shards
do not depend on the number of cores.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

import numpy as np

from gpt2.data.packing.splits import Piece
from gpt2.data.packing.writer import ShardWriter
from gpt2.data.sources.corpora import Document
from gpt2.data.tokenization.tokenizers import Tokenizer, cut, encode

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


def encoded(
    tokenizer: Tokenizer, documents: Sequence[Document]
) -> Iterator[np.ndarray]:
    """The tokens of each document, encoded on all cores as the packer does."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "encode") as pool:
        jobs = [pool.submit(encode, tokenizer, *document) for document in documents]
        try:
            for job in jobs:
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


class Packer:
    """Appends pieces to the writers of their split, in order.

    The first pieces of a split are skipped as long as they lie in the shards
    that its writer found finished; `skip` says how many those are. With a
    budget (0 is none) nothing is taken after the training document that
    reaches so many tokens. `last` is the name of the document packed last.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        writers: Mapping[str, ShardWriter],
        skip: Mapping[str, int],
        budget: int = 0,
    ):
        self.tokenizer, self.writers, self.budget = tokenizer, writers, budget
        self._skip = dict(skip)
        self._batch: list[Part] = []
        self._bytes = 0
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "encode")
        self.full = self._reached()
        self.last: str | None = None

    def add(self, piece: Piece) -> None:
        """One piece. Raises TokenizerError that names the document."""
        split, text, ends, name = piece
        if self._skip[split]:
            self._skip[split] -= 1
            if self._reached():
                self.flush()
                self.full = True
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
        """Encode and append what was gathered, up to the budget."""
        for part, tokens in zip(self._batch, self._pool.map(self._encode, self._batch)):
            writer = self.writers[part.split]
            writer.append(tokens)
            if part.ends:
                writer.append([self.tokenizer.eot])
            if part.piece_bytes is not None:
                writer.end_document(part.piece_bytes)
                self.last = part.name
                if part.split == "train" and self._reached():
                    self.full = True
                    break
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

    def _reached(self) -> bool:
        """Whether the training split, no longer skipped, has its tokens."""
        there = self.writers["train"].tokens
        return bool(self.budget) and not self._skip["train"] and there >= self.budget

    def _encode(self, part: Part) -> np.ndarray:
        return encode(self.tokenizer, part.name, part.text)
