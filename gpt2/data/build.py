"""Packing a corpus: from documents to shards and dataset.json.

The dataset is built in a folder beside its place and swapped in when it is
whole, so a dataset is either the old one or the new one. A build that was
killed is taken up after its last finished shard and ends in the same bytes.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Callable, Iterator

from gpt2.data import shards
from gpt2.data.bpe import gpt2, train, trained
from gpt2.data.corpora import Document, Source, SourceHash, describe, documents
from gpt2.data.entropy import entropies
from gpt2.data.meter import Meter
from gpt2.data.pack import Packer
from gpt2.data.shards import ShardError
from gpt2.data.splits import pieces
from gpt2.data.tokenizers import ByteTokenizer, Tokenizer, TokenizerError
from gpt2.data.writer import ShardWriter
from gpt2.settings import DataSettings
from records import atomic
from records.manifest import SPLITS, Manifest, Split, streams_sha256, write_manifest

RECIPE = "recipe.json"
TOKENIZER = "tokenizer.json"
Say = Callable[[str], None]


class BuildError(Exception):
    """A dataset that cannot be built; the message says why and what helps."""


def build(settings: DataSettings, directory: Path, source: Source, say: Say) -> None:
    """Pack the corpus beside `directory`, then swap it in.

    The caller holds the dataset's lock. Raises BuildError, CorpusError,
    TokenizerError, and OSError when the disk refuses.
    """
    say(
        f"{describe(settings)}: {source.documents:,} documents, "
        f"{source.bytes / 1e6:.1f} MB, {source.empty} empty skipped"
    )
    building = beside(directory, "building")
    tokenizer, writers = _start(settings, building, source, say)
    _pack(settings, source, tokenizer, writers)
    for name in SPLITS:
        if not writers[name].headers:
            shutil.rmtree(building)
            raise BuildError(_empty_split(settings, name, source))
    write_manifest(building, _manifest(settings, source, tokenizer, writers))
    _swap(building, directory)


def _start(
    settings: DataSettings, building: Path, source: Source, say: Say
) -> tuple[Tokenizer, dict[str, ShardWriter]]:
    """The tokenizer, and writers that go on from shards of the same recipe."""
    fixed = _fixed_tokenizer(settings)
    recipe = {
        "version": shards.VERSION,
        "source_sha256": source.sha256,
        "tokenizer": settings.tokenizer,
        "bpe_vocab_size": settings.bpe_vocab_size,
        "bpe_train_mb": settings.bpe_train_mb,
        "split": settings.split,
        "val_fraction": settings.val_fraction,
        "shard_tokens": settings.shard_tokens,
    }

    def writers(tokenizer: Tokenizer) -> dict[str, ShardWriter]:
        return {
            name: ShardWriter(
                building,
                name,
                tokenizer.dtype,
                tokenizer.vocab_size,
                source.sha256,
                settings.shard_tokens,
            )
            for name in SPLITS
        }

    if _read_recipe(building / RECIPE) == recipe:
        try:
            tokenizer = fixed or trained((building / TOKENIZER).read_bytes())
            taken = writers(tokenizer)
        except (ShardError, TokenizerError, FileNotFoundError) as error:
            say(f"the interrupted build is started over: {error}")
        else:
            kept = sum(len(writer.headers) for writer in taken.values())
            say(f"taking up an interrupted build, {kept} shards kept")
            return tokenizer, taken
    _discard(building)
    building.mkdir()
    atomic.write_json(building / RECIPE, recipe)
    tokenizer = fixed or _train(settings, source, building, say)
    return tokenizer, writers(tokenizer)


def _fixed_tokenizer(settings: DataSettings) -> Tokenizer | None:
    """The tokenizer, None for one that the corpus trains."""
    if settings.tokenizer == "byte":
        return ByteTokenizer()
    if settings.tokenizer == "gpt2":
        path = settings.gpt2_vocab_path
        return gpt2(Path(path) if path else None)
    return None


def _train(
    settings: DataSettings, source: Source, building: Path, say: Say
) -> Tokenizer:
    """A BPE trained on the training split, written to tokenizer.json."""
    limit = settings.bpe_train_mb * 1_000_000 or source.bytes
    say(f"training a BPE of {settings.bpe_vocab_size:,} tokens on the training split")
    meter = Meter("reading", min(limit, source.bytes))

    def sample() -> Iterator[memoryview]:
        for split, text, _, _ in pieces(settings, documents(settings), source):
            if split == "train":
                yield text
                meter.advance(len(text))
                if meter.done >= limit:
                    return

    content = train(sample(), settings.bpe_vocab_size)
    meter.close()
    atomic.write_bytes(building / TOKENIZER, content)
    return trained(content)


def _read_recipe(path: Path) -> object:
    """The recipe of an unfinished build, None if there is no readable one."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _pack(
    settings: DataSettings,
    source: Source,
    tokenizer: Tokenizer,
    writers: dict[str, ShardWriter],
) -> None:
    """Write every piece that is not yet in a finished shard."""
    again = SourceHash()
    meter = Meter("packing", source.bytes)
    skip = {name: writer.finished_documents for name, writer in writers.items()}
    with closing(Packer(tokenizer, writers, skip)) as packer:
        for piece in pieces(settings, _watched(settings, again), source):
            packer.add(piece)
            meter.advance(len(piece[1]))
        packer.finish()
    meter.close()
    if again.result() != source:
        shutil.rmtree(writers["train"].folder)
        raise BuildError(
            f"{describe(settings)} changed while it was packed: run `make data` again"
        )


def _watched(settings: DataSettings, found: SourceHash) -> Iterator[Document]:
    """The documents, each of them counted in `found`."""
    for name, text in documents(settings):
        found.add(text)
        yield name, text


def _manifest(
    settings: DataSettings,
    source: Source,
    tokenizer: Tokenizer,
    writers: dict[str, ShardWriter],
) -> Manifest:
    """Read the finished shards back: stream hashes and entropies."""
    splits, streams = {}, []
    for name, writer in writers.items():
        stream = hashlib.sha256()
        paths = [writer.folder / file for file in writer.names]
        for path, header in zip(paths, writer.headers):
            shards.check_tokens(path, header, stream)
        splits[name] = Split(
            tuple(writer.names),
            sum(header.tokens for header in writer.headers),
            sum(header.documents for header in writer.headers),
            sum(header.bytes for header in writer.headers),
            stream.hexdigest(),
        )
        streams.append(map(shards.map_tokens, paths, writer.headers))
    unigram, bigram = entropies(streams, tokenizer.vocab_size)
    vocabulary = writers["train"].folder / TOKENIZER
    return Manifest(
        corpus=settings.corpus,
        tokenizer=tokenizer.name,
        vocab_size=tokenizer.vocab_size,
        dtype=tokenizer.dtype.str,
        splits=splits,
        sha256=streams_sha256(splits),
        source_sha256=source.sha256,
        unigram_nats=unigram,
        bigram_nats=bigram,
        created=time.time(),
        tokenizer_sha256=file_sha256(vocabulary) if vocabulary.exists() else None,
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _swap(building: Path, directory: Path) -> None:
    """Put the finished build in place. A kill in between leaves it beside."""
    old = beside(directory, "old")
    _discard(old)
    if directory.exists():
        os.replace(directory, old)
    os.replace(building, directory)
    atomic.sync_directory(directory.parent)
    (directory / RECIPE).unlink()
    _discard(old)


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def beside(directory: Path, what: str) -> Path:
    """A hidden neighbour of the dataset: its build, lock or predecessor."""
    return directory.parent / f".{directory.name}.{what}"


def _empty_split(settings: DataSettings, name: str, source: Source) -> str:
    head = (
        f"{describe(settings)}: split {name} came out empty with "
        f"CONFIG_VAL_FRACTION={settings.val_fraction:g} of {source.documents} "
        f"documents, {source.bytes} bytes"
    )
    if settings.split == "document":
        return f"{head}; use CONFIG_VAL_SPLIT_TAIL=y, which cuts by bytes"
    return f"{head}; choose another CONFIG_VAL_FRACTION or a larger corpus"
