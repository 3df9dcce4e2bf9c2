"""`make data`: pack a corpus once, verify it ever after.

A dataset that is whole and was packed from the corpus as it is now is left
alone; otherwise build.py packs it, one process at a time per dataset, by a
lock on a file beside it that is gone afterwards.
"""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from gpt2.data import shards
from gpt2.data.packing.build import BuildError, Say, beside, build, file_sha256
from gpt2.data.packing.on_the_fly import build_unpacked, changed
from gpt2.data.shards import ShardError
from gpt2.data.sources.corpora import CorpusError, Source, absent, scan
from gpt2.data.sources.folder import UnusableFiles
from gpt2.data.tokenization import token_bytes
from gpt2.data.tokenization.bpe import TOKENIZER, fixed_tokenizer
from gpt2.settings.run import DataSettings
from records import atomic, refused
from records.manifest import (
    NAME,
    SPLITS,
    Manifest,
    ManifestError,
    MissingDataset,
    read_manifest,
)
from records.plurals import plural


def prepare(settings: DataSettings, directory: Path, say: Say = print) -> Manifest:
    """Make `directory` hold the packed corpus of the settings.

    Verifies what is there, without writing, and builds only under the lock and
    only what is missing or stale, as seen when the lock is held; of a dataset that is
    whole, a missing token_bytes.bin alone. Raises
    CorpusError for the source, TokenizerError for a text or vocabulary that
    cannot be encoded and BuildError for everything else.
    """
    whole = f"{directory}: up to date"
    if gone := absent(settings):
        whole += f" as it was packed; {gone} is not here to compare it with"
    if (directory / NAME).exists() and _examine(settings, directory)[0] is None:
        _require_token_bytes(settings, directory)
        say(whole)
        return read_manifest(directory)
    source = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(beside(directory, "lock"), say):
            reason, source = _examine(settings, directory)
            if reason is not None:
                say(f"{directory}: packing, because {reason}")
                if settings.on_the_fly:
                    build_unpacked(settings, directory, say)
                else:
                    build(settings, directory, source, say)
            _require_token_bytes(settings, directory)
    except OSError as error:
        raise BuildError(_explain(error, directory, source)) from error
    manifest = read_manifest(directory)
    say(summary(directory, manifest) if reason else whole)
    return manifest


def _require_token_bytes(settings: DataSettings, directory: Path) -> None:
    """What a run counts bits/byte with, where only the vocabulary has it: written
    beside the shards, those of older versions too. Raises TokenizerError.
    """
    if settings.tokenizer != "gpt2":
        return
    try:
        token_bytes.token_bytes(directory, read_manifest(directory))
    except ShardError:
        ranks = fixed_tokenizer(settings).ranks
        token_bytes.write(directory, sorted(ranks, key=ranks.get))


def examine(
    settings: DataSettings, directory: Path
) -> tuple[str | None, Source | None]:
    """(why the dataset must be built, what a scan of the corpus found).

    No reason if it is whole and current. Reads the whole corpus, unless it is
    not on this machine (a packed one serves without its text) or
    streamed (what was packed of it stays as it is, and the hub is not asked; a
    folder that runs read on the fly is compared with what was prepared),
    and every shard; writes nothing. Raises CorpusError.
    """
    gone = absent(settings)
    source = None if settings.streamed or gone else scan(settings)
    reason = _stale(settings, directory, source)
    if reason and gone:
        raise CorpusError(f"{gone}: No such file or directory; {directory}: {reason}")
    return reason, source


def _stale(
    settings: DataSettings, directory: Path, source: Source | None
) -> str | None:
    """Why the dataset is not that of the settings and the source, None if it is."""
    try:
        manifest = read_manifest(directory)
        if source is not None and manifest.source_sha256 != source.sha256:
            return (
                f"the corpus changed (sha256 {manifest.source_sha256[:16]} then, "
                f"{source.sha256[:16]} now)"
            )
        for split in filter(lambda name: manifest.splits[name].files, SPLITS):
            shards.open_split(directory, manifest, split, full=True)
        if manifest.tokenizer_sha256 is not None:
            _check_tokenizer(directory / TOKENIZER, manifest.tokenizer_sha256)
        if settings.on_the_fly:
            return changed(settings, manifest)
    except MissingDataset:
        return "it is not there"
    except (ManifestError, ShardError) as error:
        return f"{error.path}: {error.why}"
    return None


def _examine(
    settings: DataSettings, directory: Path
) -> tuple[str | None, Source | None]:
    """examine(), which names the unusable files of a corpus in a file beside it."""
    try:
        return examine(settings, directory)
    except UnusableFiles as error:
        listed = beside(directory, "unusable")
        names = [name for name in error.paths if "\n" not in name]
        atomic.write_bytes(listed, os.fsencode("".join(f"{n}\n" for n in names)))
        raise CorpusError(
            f'{error}\nall of them: CONFIG_LOCAL_FILES="@{listed}:skip" leaves them out'
        ) from error


def _check_tokenizer(path: Path, expected: str) -> None:
    """Raises ShardError for a tokenizer.json that is not the packed one."""
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ShardError(path, error.strerror, "the trained tokenizer") from error
    if found != expected:
        raise ShardError(path, f"content {found}", expected)


def summary(directory: Path, manifest: Manifest) -> str:
    """The dataset in a few lines."""
    lines = [f"{directory}: {manifest.origin}"]
    for name in SPLITS:
        split = manifest.splits[name]
        if not split.files:
            lines.append(f"  {name:5} read on the fly")
            continue
        lines.append(
            f"  {name:5} {split.tokens:>13,} tokens "
            f"{plural(split.documents, 'document'):>19} "
            f"{plural(len(split.files), 'shard'):>12}"
        )
    if manifest.unigram_nats is not None and manifest.bigram_nats is not None:
        lines.append(
            f"  entropy, nats/token: unigram {manifest.unigram_nats:.4f}, "
            f"bigram {manifest.bigram_nats:.4f}"
        )
    return "\n".join([*lines, f"  sha256 {manifest.sha256}"])


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock, waiting for whoever has it; the file goes when it is released.

    Only the holder removes the file, and whoever waited for it looks whether the name
    still means what it has locked: if not, the lock is that of nothing, and it begins
    anew. A file that a killed process has left is taken like any other.
    """
    while True:
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{path}: another `make data` is at work, waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _names(path, file.fileno()):
                continue
            try:
                yield
            finally:
                if _names(path, file.fileno()):
                    path.unlink()
            return


def _names(path: Path, descriptor: int) -> bool:
    """Whether the file of the descriptor is the one of this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _explain(error: OSError, directory: Path, source: Source | None) -> str:
    where = f"{error.filename or directory}: {error.strerror or error}"
    if error.errno in refused.FULL:
        if source is None:
            return f"{where}; CONFIG_DATA_TOKENS packs less of it"
        need = (source.bytes + source.documents) * 2 / 1e6
        return f"{where}; the dataset needs {need:.0f} MB under {directory.parent}"
    if error.errno in refused.CLOSED:
        return f"{where}; CONFIG_DATA_DIR must be a folder that can be written"
    return where
