"""Corpora too large to pack: what identifies one, and what `make data` keeps of it.

The validation split is packed, as far as CONFIG_DATA_VAL_TOKENS, and a trained
tokenizer is kept. The training split is whatever else the stream holds, and its
hash cannot be that of its tokens, which nobody has read. It is that of

    the commit and the files (of a folder: names, sizes, first and last MiB),
    sample, order and split rule, tokenizer, length of an epoch.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2.data import shards
from gpt2.data.packing.build import Say, beside, file_sha256, swap, train_tokenizer
from gpt2.data.packing.forecast import BuildError
from gpt2.data.packing.journal import STREAM
from gpt2.data.packing.splits import pieces
from gpt2.data.packing.writer import ShardWriter
from gpt2.data.shards import EDGE_BYTES
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.tokenization.bpe import GPT2_SHA256, TOKENIZER, fixed_tokenizer
from gpt2.data.tokenization.tokenizers import Tokenizer, encode
from gpt2.settings.run import DataSettings
from records import atomic
from records.manifest import Manifest, Split, streams_sha256, write_manifest
from records.progress_line import Counted

if TYPE_CHECKING:
    from gpt2.data.sources.hub import Stream


def source_sha256(stream: "Stream") -> str:
    """What a stream will hold, known before it is read.

    Raises CorpusError where that cannot be known: files on a server without a
    commit can change at any time.
    """
    if not stream.local:
        if stream.revision is None:
            raise CorpusError(
                f"{stream.place}: its files are not of one commit, so what runs would "
                "read cannot be known: set CONFIG_HF_REVISION to a commit, take "
                "CONFIG_HF_PATH=FOLDER, or pack it (CONFIG_DATA_ON_THE_FLY=n)"
            )
        return stream.source.sha256
    settings = stream.settings
    facts = {
        "files": [
            _file(Path(name), name.removeprefix(stream.place).lstrip("/"))
            for name in stream.files
        ],
        "sample": settings.finewebedu_sample,
        "paragraphs": stream.repository.paragraphs,
        "shuffle": [settings.shuffle_buffer, settings.shuffle_seed],
    }
    return _digest(facts)


def changed(settings: DataSettings, manifest: Manifest) -> str | None:
    """Why a folder is not what was prepared; None if it is, and for the hub, of
    which the commit that was prepared is read. Raises CorpusError.
    """
    if not settings.hf_path or not Path(settings.hf_path).is_dir():
        return None
    from gpt2.data.sources.hub import Stream  # its imports take seconds

    found = source_sha256(Stream(settings))
    if found == manifest.source_sha256:
        return None
    return f"the corpus changed (sha256 {manifest.source_sha256[:16]} then, {found[:16]} now)"


def train_sha256(settings: DataSettings, source: str, tokenizer: str | None) -> str:
    """The identity of a training split that is read on the fly.

    tokenizer: the sha256 of tokenizer.json, None for a fixed one.
    """
    fixed = {"byte": "byte", "gpt2": GPT2_SHA256}.get(settings.tokenizer)
    return _digest(
        {
            "on_the_fly": 1,
            "source": source,
            "tokenizer": tokenizer or fixed,
            "val_fraction": settings.val_fraction,
            "epoch_tokens": settings.tokens,
        }
    )


def _digest(facts: dict) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _file(path: Path, name: str) -> list:
    """Name, size, and the hash of the first and the last MiB."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(size - EDGE_BYTES, 0))
        digest.update(file.read(EDGE_BYTES))
    return [name, size, digest.hexdigest()]


def build_unpacked(settings: DataSettings, directory: Path, say: Say) -> None:
    """Pack the validation split beside `directory`, then swap it in.

    A build that was killed is started over: it reads no more than what holds the
    validation documents. Raises BuildError, CorpusError, TokenizerError, and
    OSError when the disk refuses.
    """
    from gpt2.data.sources.hub import Stream  # its imports take seconds

    stream = Stream(settings)
    source = source_sha256(stream)
    say(f"{stream.description}, {stream.amount}, read on the fly by every run")
    building = beside(directory, "building")
    if building.exists():
        shutil.rmtree(building)
    building.mkdir()
    tokenizer = fixed_tokenizer(settings)
    tokenizer = tokenizer or train_tokenizer(settings, stream, building, say)
    writer = ShardWriter(
        building,
        "val",
        tokenizer.dtype,
        tokenizer.vocab_size,
        source,
        settings.shard_tokens,
    )
    _pack_val(settings, stream, tokenizer, writer)
    if not writer.headers:
        raise BuildError(
            f"{stream.description}: no validation document with CONFIG_VAL_FRACTION="
            f"{settings.val_fraction:g}: choose a larger one"
        )
    if writer.tokens < settings.val_tokens:
        say(
            f"the corpus ended after {writer.tokens:,} validation tokens, "
            f"CONFIG_DATA_VAL_TOKENS={settings.val_tokens} wanted"
        )
    atomic.write_json(building / STREAM, {"revision": stream.revision})
    write_manifest(building, _manifest(settings, stream, source, tokenizer, writer))
    swap(building, directory)


def _pack_val(
    settings: DataSettings, stream: "Stream", tokenizer: Tokenizer, writer: ShardWriter
) -> None:
    """Validation documents from the start of the stream, up to the budget."""
    meter = Counted("reading", None)
    for block, _ in stream.blocks(None):
        for split, text, _, name in pieces(settings, iter(block), stream.source):
            meter.advance(len(text))
            if split == "val" and writer.tokens < settings.val_tokens:
                writer.append(encode(tokenizer, name, text))
                writer.append([tokenizer.eot])
                writer.end_document(len(text))
        if writer.tokens >= settings.val_tokens:
            break
    writer.finish()
    meter.close()


def _manifest(
    settings: DataSettings,
    stream: "Stream",
    source: str,
    tokenizer: Tokenizer,
    writer: ShardWriter,
) -> Manifest:
    digest = hashlib.sha256()
    for name, header in zip(writer.names, writer.headers):
        shards.check_tokens(writer.folder / name, header, digest)
    vocabulary = writer.folder / TOKENIZER
    trained = file_sha256(vocabulary) if vocabulary.exists() else None
    splits = {
        "train": Split((), 0, 0, 0, train_sha256(settings, source, trained)),
        "val": Split(
            tuple(writer.names),
            sum(header.tokens for header in writer.headers),
            sum(header.documents for header in writer.headers),
            sum(header.bytes for header in writer.headers),
            digest.hexdigest(),
        ),
    }
    return Manifest(
        corpus=settings.corpus,
        tokenizer=tokenizer.name,
        vocab_size=tokenizer.vocab_size,
        dtype=tokenizer.dtype.str,
        splits=splits,
        sha256=streams_sha256(splits),
        source_sha256=source,
        origin=stream.description,
        unigram_nats=None,
        bigram_nats=None,
        created=time.time(),
        tokenizer_sha256=trained,
    )
