"""Packing a corpus: from documents to shards and dataset.json.

The dataset is built in a folder beside its place and swapped in when it is
whole, so a dataset is either the old one or the new one. A build that was
killed is taken up after its last finished shard and ends in the same bytes.
"""

import hashlib
import json
import math
import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Iterator

from gpt2.data import shards
from gpt2.data.packing.entropy import entropies
from gpt2.data.packing.forecast import BuildError, Forecast, Origin, forecast, size_of
from gpt2.data.packing.journal import Journal
from gpt2.data.packing.journal import NAME as JOURNAL
from gpt2.data.packing.pack import Packer
from gpt2.data.packing.splits import pieces
from gpt2.data.packing.writer import ShardWriter
from gpt2.data.shards import ShardError
from gpt2.data.sources.corpora import CorpusError, Scanned, Source
from gpt2.data.sources.files import printable
from gpt2.data.tokenization.bpe import TOKENIZER, fixed_tokenizer, train, trained
from gpt2.data.tokenization.tokenizers import Tokenizer, TokenizerError, as_text
from gpt2.settings.run import DataSettings
from records import atomic
from records.manifest import SPLITS, Manifest, Split, streams_sha256, write_manifest
from records.plurals import plural
from records.progress_line import Counted

RECIPE = "recipe.json"
Say = Callable[[str], None]


def build(
    settings: DataSettings, directory: Path, source: Source | None, say: Say
) -> None:
    """Pack the corpus beside `directory`, then swap it in.

    source: what a scan found, None for a corpus that is streamed. The caller
    holds the dataset's lock. Raises BuildError, CorpusError, TokenizerError,
    and OSError when the disk refuses.
    """
    building = beside(directory, "building")
    before = _read_recipe(building / RECIPE)
    origin = open_origin(settings, source, before.get("revision"))
    say(f"{origin.description}, {origin.amount}")
    tokenizer, writers = _start(settings, building, origin, before, say)
    ahead = forecast(settings, origin, tokenizer)
    say(ahead.line(directory.parent))
    ahead.require_room(directory.parent, size_of(building))
    last = _pack(settings, origin, tokenizer, writers, ahead)
    if settings.streamed and writers["train"].tokens < settings.tokens:
        say(
            f"the corpus ended after {writers['train'].tokens:,} training tokens, "
            f"CONFIG_DATA_TOKENS={settings.tokens} wanted"
        )
    packed = sum(writer.finished_documents for writer in writers.values())
    if settings.tokens and packed < (origin.source.documents or 0):
        say(
            f"CONFIG_DATA_TOKENS={settings.tokens} was reached after {packed:,} of "
            f"{origin.source.documents:,} documents" + _behind(settings, last)
        )
    for name in SPLITS:
        if not writers[name].headers:
            shutil.rmtree(building)
            raise BuildError(_empty_split(settings, name, origin))
    write_manifest(building, _manifest(settings, origin, tokenizer, writers))
    swap(building, directory)


def open_origin(
    settings: DataSettings, source: Source | None, revision: str | None
) -> Origin:
    """The corpus of the settings; source: of its scan, revision: of its stream."""
    if settings.streamed:
        from gpt2.data.sources.hub import Stream  # its imports take seconds

        return Stream(settings, revision)
    return Scanned(settings, source)


def _start(
    settings: DataSettings,
    building: Path,
    origin: Origin,
    before: dict[str, Any],
    say: Say,
) -> tuple[Tokenizer, dict[str, ShardWriter]]:
    """The tokenizer, and writers that go on from shards of the same recipe."""
    fixed = fixed_tokenizer(settings)
    recipe = {
        "version": shards.VERSION,
        "source_sha256": origin.source.sha256,
        "revision": origin.revision,
        "tokenizer": settings.tokenizer,
        "bpe_vocab_size": settings.bpe_vocab_size,
        "bpe_train_mb": settings.bpe_train_mb,
        "split": settings.split,
        "val_fraction": settings.val_fraction,
        "tokens": settings.tokens,
        "shard_tokens": settings.shard_tokens,
    }

    def writers(tokenizer: Tokenizer) -> dict[str, ShardWriter]:
        return {
            name: ShardWriter(
                building,
                name,
                tokenizer.dtype,
                tokenizer.vocab_size,
                origin.source.sha256,
                settings.shard_tokens,
            )
            for name in SPLITS
        }

    if before == recipe:
        try:
            tokenizer = fixed or trained((building / TOKENIZER).read_bytes())
            taken = writers(tokenizer)
        except (ShardError, TokenizerError, FileNotFoundError) as error:
            say(f"the interrupted build is started over: {error}")
        else:
            kept = sum(len(writer.headers) for writer in taken.values())
            say(f"taking up an interrupted build, {plural(kept, 'shard')} kept")
            return tokenizer, taken
    _discard(building)
    building.mkdir()
    atomic.write_json(building / RECIPE, recipe)
    tokenizer = fixed or train_tokenizer(settings, origin, building, say)
    return tokenizer, writers(tokenizer)


def train_tokenizer(
    settings: DataSettings, origin: Origin, building: Path, say: Say
) -> Tokenizer:
    """A BPE trained on the training split, written to tokenizer.json."""
    limit = settings.bpe_train_mb * 1_000_000 or math.inf
    wanted = settings.bpe_vocab_size
    say(f"training a BPE of {wanted:,} tokens on the training split")
    meter = Counted("reading", origin.source.bytes)
    last = left = None

    def sample() -> Iterator[str]:
        nonlocal last, left
        every = (
            piece
            for block, _ in origin.blocks(None)
            for piece in pieces(settings, iter(block), origin.source)
            if piece[0] == "train"
        )
        for _, text, _, name in every:
            if meter.done >= limit:
                left = name
                break
            yield as_text(text, name)
            meter.advance(len(text))
            last = name
        meter.close()

    content = train(sample(), wanted, say)
    if left is not None and not settings.streamed:
        say(
            f"the BPE was trained on the first {meter.done / 1e6:.1f} MB "
            f"(CONFIG_BPE_TRAIN_MB)" + _behind(settings, last)
        )
    atomic.write_bytes(building / TOKENIZER, content)
    return trained(content)


def _read_recipe(path: Path) -> dict[str, Any]:
    """The recipe of an unfinished build, {} if there is no readable one."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _pack(
    settings: DataSettings,
    origin: Origin,
    tokenizer: Tokenizer,
    writers: dict[str, ShardWriter],
    ahead: Forecast,
) -> str | None:
    """Write every piece that is not yet in a finished shard; the name of the last
    document, None when all were in finished shards.

    The order of the pieces is always the same; of each split, as many as the
    finished shards hold are skipped, from the last known position before them.
    """
    journal = Journal(writers["train"].folder)
    finished = {name: writer.finished_documents for name, writer in writers.items()}
    position, seen = journal.last(finished)
    skip = {name: count - seen[name] for name, count in finished.items()}
    meter = Counted("packing", ahead.text_bytes)
    with closing(Packer(tokenizer, writers, skip, settings.tokens)) as packer:
        for block, position in origin.blocks(position):
            for piece in pieces(settings, iter(block), origin.source):
                if packer.full:
                    break
                packer.add(piece)
                seen[piece[0]] += 1
                meter.advance(len(piece[1]))
            if packer.full:
                break
            if position is not None:
                journal.add(position, seen)
        packer.finish()
    meter.close()
    try:
        origin.confirm()
    except CorpusError:
        shutil.rmtree(writers["train"].folder)
        raise
    return packer.last


def _behind(settings: DataSettings, last: str | None) -> str:
    """Where a corpus of files was left, and what mixes them."""
    where = f", at {printable(last)}" if last else ""
    if settings.corpus != "local" or settings.local_shuffle:
        return where
    return (
        f"{where}: nothing is taken of what follows in the order of the paths; "
        "CONFIG_LOCAL_SHUFFLE=y mixes the files"
    )


def _manifest(
    settings: DataSettings,
    origin: Origin,
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
        source_sha256=origin.source.sha256,
        origin=origin.description,
        unigram_nats=unigram,
        bigram_nats=bigram,
        created=time.time(),
        tokenizer_sha256=file_sha256(vocabulary) if vocabulary.exists() else None,
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def swap(building: Path, directory: Path) -> None:
    """Put the finished build in place. A kill in between leaves it beside."""
    old = beside(directory, "old")
    _discard(old)
    if directory.exists():
        os.replace(directory, old)
    os.replace(building, directory)
    atomic.sync_directory(directory.parent)
    (directory / RECIPE).unlink(missing_ok=True)
    (directory / JOURNAL).unlink(missing_ok=True)
    _discard(old)


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def beside(directory: Path, what: str) -> Path:
    """A hidden neighbour of the dataset: its build, lock or predecessor."""
    return directory.parent / f".{directory.name}.{what}"


def _empty_split(settings: DataSettings, name: str, origin: Origin) -> str:
    head = (
        f"{origin.description}: split {name} came out empty with "
        f"CONFIG_VAL_FRACTION={settings.val_fraction:g}"
    )
    if origin.source.documents is not None:
        documents = plural(origin.source.documents, "document")
        head += f" of {documents}, {plural(origin.source.bytes, 'byte')}"
        if settings.split == "document" and not settings.recall:
            return f"{head}; use CONFIG_VAL_SPLIT_TAIL=y, which cuts by bytes"
    return f"{head}; choose another CONFIG_VAL_FRACTION or a larger corpus"
