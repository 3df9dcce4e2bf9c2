"""`make data-smoke`: how fast text comes in and batches go out, without a model.

Reads and encodes the corpus for a few seconds, writing nothing, then times the
loader on the packed one and shows its first batch.
"""

import os
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np

from gpt2.data.loading.loader import Prefetcher, micro_batch
from gpt2.data.loading.on_the_fly import train_windows
from gpt2.data.packing.build import open_origin
from gpt2.data.packing.pack import encoded
from gpt2.data.sources.corpora import Document, Source
from gpt2.data.tokenization.bpe import tokenizer_of
from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.settings.run import DataSettings, RunSettings
from records.manifest import NAME, read_manifest

SECONDS = 3.0
SHOWN_TOKENS = 48
# What is read for the timing is held in memory, for the encoding.
HELD_BYTES = 1 << 28
UNKNOWN = Source("", None, None, 0)


def smoke(settings: RunSettings, directory: Path, seconds: float = SECONDS) -> None:
    """Print the rates of reading, of encoding and of the loader.

    Raises CorpusError, TokenizerError, and what opening a split raises.
    """
    packed = (directory / NAME).exists()
    trained = settings.data.tokenizer == "bpe"
    tokenizer = (
        None if trained and not packed else tokenizer_of(settings.data, directory)
    )
    _source(settings.data, tokenizer, seconds)
    if tokenizer is None:
        print("encoding   the vocabulary is trained by `make data`")
    if not packed:
        print(f"loader     {directory} is not there; `make data` packs the corpus")
        return
    _loader(settings, directory, tokenizer, seconds)


def _source(
    settings: DataSettings, tokenizer: Tokenizer | None, seconds: float
) -> None:
    opened = time.perf_counter()
    origin = open_origin(settings, UNKNOWN, None)
    every = (item for block, _ in origin.blocks(None) for item in block)
    start = time.perf_counter()
    read = list(islice(every, 1))
    waited = time.perf_counter() - opened
    print(f"corpus     {origin.description}; first document after {waited:.2f} s")
    read += _until(every, start + seconds)
    _rate("reading", read, None, time.perf_counter() - start)
    if tokenizer is None:
        return
    wall, cpu = time.perf_counter(), time.process_time()
    tokens, done = 0, 0
    for part in encoded(tokenizer, read):
        tokens += len(part) + 1
        done += 1
        if time.perf_counter() - wall > seconds:
            break
    cpu = time.process_time() - cpu
    _rate("encoding", read[:done], tokens, time.perf_counter() - wall)
    size = sum(len(text) for _, text in read[:done])
    print(f"           {size / 1e6 / cpu:.1f} MB/s per core")


def _until(documents: Iterable[Document], deadline: float) -> Iterator[Document]:
    size = 0
    for document in documents:
        yield document
        size += len(document[1])
        if time.perf_counter() > deadline or size > HELD_BYTES:
            return


def _rate(
    what: str, documents: list[Document], tokens: int | None, wall: float
) -> None:
    size = sum(len(text) for _, text in documents)
    line = f"{len(documents) / wall:,.0f} documents/s, {size / 1e6 / wall:.1f} MB/s"
    if tokens is not None:
        line += f", {tokens / wall:,.0f} tokens/s"
    print(f"{what:10} {line}")


def _loader(
    settings: RunSettings, directory: Path, tokenizer: Tokenizer, seconds: float
) -> None:
    start = time.perf_counter()
    model, data, train = settings.model, settings.data, settings.train
    windows = train_windows(settings, directory, read_manifest(directory))
    micro = train.micro_batch or 1

    def fetch(position: int) -> np.ndarray:
        return windows.rows(micro_batch(position, micro))

    with closing(windows), Prefetcher(fetch, 0, data.prefetch) as batches:
        batch_BT = next(batches)
        waited = time.perf_counter() - start
        start, count = time.perf_counter(), 0
        for _ in batches:
            count += 1
            if time.perf_counter() - start > seconds:
                break
        wall = time.perf_counter() - start
    rate = count * micro * model.block_size / wall
    cores = len(os.sched_getaffinity(0))
    print(
        f"loader     {rate:,.0f} tokens/s on {cores} cores, {count / wall:,.0f} batches/s"
    )
    print(f"first      {tuple(batch_BT.shape)} after {waited:.2f} s, split checked")
    for row in islice(batch_BT, 2):
        text = tokenizer.decode(row[:SHOWN_TOKENS].numpy())
        print(f"           {text.decode('utf-8', 'replace')!r}")
