"""Corpora: where documents come from, always in the same order.

`documents` yields (name, bytes) for the corpus that the settings name; the
name is for messages only, never part of a hash. A document is bytes and stays
bytes: nothing is decoded, so a Latin-1 source file is the document it is.
Empty documents are yielded too; `scan` counts them and everyone skips them.
"""

import hashlib
import os
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np

from gpt2.data.sources.files import CorpusError, hidden, read, walk
from gpt2.data.sources.folder import UnusableFiles, corpus_files
from gpt2.data.sources.local import Document, interleave, local_documents
from gpt2.data.sources.recall import VERSION, recall_documents
from gpt2.settings.run import DataSettings
from records.plurals import plural

TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__"})
# Written by a build or by a packager, not part of a release's sources.
GENERATED_PREFIXES = ("_sysconfigdata", "config-", "sitecustomize", "usercustomize")
# The smallest complete release has about 9 MB; a stripped one far less.
MIN_STDLIB_BYTES = 5_000_000


@dataclass(frozen=True)
class Source:
    """What one reading of a corpus found.

    sha256 covers the length and the bytes of every non-empty document in
    order, not the names. `documents` and `bytes` count non-empty documents;
    they are None for a stream (hub.py), whose sha256 is that of its identity.
    """

    sha256: str
    documents: int | None
    bytes: int | None
    empty: int


class SourceHash:
    """The running Source of a stream of documents."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._documents = self._bytes = self._empty = 0

    def add(self, text: bytes) -> None:
        """Count one document."""
        if not text:
            self._empty += 1
            return
        self._sha.update(len(text).to_bytes(8, "little"))
        self._sha.update(text)
        self._documents += 1
        self._bytes += len(text)

    def result(self) -> Source:
        """The Source of the documents so far."""
        return Source(self._sha.hexdigest(), self._documents, self._bytes, self._empty)


def scan(settings: DataSettings) -> Source:
    """Read the whole corpus once. Raises CorpusError, also when it is empty;
    UnusableFiles names every file that cannot be packed.
    """
    found, faults = SourceHash(), []
    for _, text in documents(settings, faults):
        found.add(text)
    if faults:
        raise UnusableFiles(describe(settings), faults)
    source = found.result()
    if source.documents == 0:
        raise CorpusError(
            f"{describe(settings)} holds no text ({source.empty} empty documents)"
        )
    return source


def documents(
    settings: DataSettings, faults: list[tuple[str, str]] | None = None
) -> Iterator[Document]:
    """(name, bytes) of every document in order. Raises CorpusError.

    faults: takes what is wrong with files of a local corpus (local_documents).
    """
    if settings.corpus == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        return stdlib_documents(root, settings.stdlib_tests)
    if settings.corpus == "synthetic":
        return synthetic_documents(settings.synthetic_mb)
    if settings.recall:
        asked = settings.recall
        sizes = (asked.pairs, asked.keys, asked.values, asked.length)
        return recall_documents(asked.rows, asked.seed, *sizes)
    if settings.corpus == "local":
        readers = [
            local_documents(
                path,
                settings.local_field,
                symbol,
                rules=settings.local_files or (),
                shuffled=settings.local_shuffle,
                utf8=settings.tokenizer != "byte",
                faults=faults,
            )
            for symbol, path in local_places(settings)
        ]
        if settings.local_path:
            return readers[0]
        return interleave(readers, [weight for _, weight in settings.local_sources])
    raise CorpusError(f"corpus {settings.corpus!r} is streamed, not read from files")


def local_places(settings: DataSettings) -> list[tuple[str, Path]]:
    """(symbol that names it, path) of the files or folders of a local corpus."""
    if settings.corpus != "local":
        return []
    if settings.local_path:
        return [("CONFIG_LOCAL_PATH", Path(settings.local_path))]
    return [("CONFIG_LOCAL_SOURCES", Path(name)) for name, _ in settings.local_sources]


def absent(settings: DataSettings) -> str | None:
    """The first place of a local corpus that is not there, as SYMBOL=PATH."""
    for symbol, path in local_places(settings):
        if not os.path.lexists(path):
            return f"{symbol}={path}"
    return None


class Scanned:
    """A corpus that was read once, to be read again while it is packed."""

    revision = None

    def __init__(self, settings: DataSettings, source: Source):
        self.settings, self.source = settings, source
        self.description = describe(settings)
        self.rows = source.documents
        self._again = SourceHash()
        self._reading: Iterator[Document] = iter(())

    @property
    def amount(self) -> str:
        """How much the scan found and in which kinds of files, in words."""
        size = f"{self.source.bytes / 1e6:.1f} MB"
        found = (
            f"{plural(self.source.documents, 'document')}, {size}, "
            f"{self.source.empty} empty skipped"
        )
        rules, shuffled = self.settings.local_files or (), self.settings.local_shuffle
        for _, path in local_places(self.settings):
            found += f"\n  {path}: {corpus_files(path, rules, shuffled).summary()}"
        return found

    def blocks(self, position: None) -> Iterator[tuple[Iterator[Document], None]]:
        """All documents as one block, lazily; it is always read from the start."""
        self._again = SourceHash()
        self._reading = self._watched()
        yield self._reading, None

    def confirm(self) -> None:
        """Raise CorpusError if the corpus is not what was scanned."""
        for _ in self._reading:
            pass
        if self._again.result() != self.source:
            raise CorpusError(
                f"{self.description} changed while it was packed: run `make data` again"
            )

    def _watched(self) -> Iterator[Document]:
        for name, text in documents(self.settings):
            self._again.add(text)
            yield name, text


def describe(settings: DataSettings) -> str:
    """The corpus in words, for messages."""
    if settings.corpus == "local" and settings.local_path:
        return f"CONFIG_LOCAL_PATH={settings.local_path}"
    if settings.corpus == "local":
        parts = (f"{name}:{weight:g}" for name, weight in settings.local_sources)
        return f"CONFIG_LOCAL_SOURCES={','.join(parts)}"
    if settings.corpus == "synthetic":
        return f"{settings.synthetic_mb} MB of synthetic words"
    if settings.recall:
        pairs = f"rows of {settings.recall.pairs_text} pairs"
        return f"recall version {VERSION}, seed {settings.recall.seed}, {pairs}"
    tests = "with" if settings.stdlib_tests else "without"
    return f"the standard library of Python {platform.python_version()} {tests} tests"


def synthetic_documents(megabytes: int) -> Iterator[Document]:
    """Made-up words, always the same: text to time things with, not to learn.

    Documents of 20 to 2000 words drawn evenly from 4096, until there are
    `megabytes` million bytes.
    """
    random = np.random.default_rng(0)
    letters = random.integers(ord("a"), ord("z") + 1, (4096, 10), np.uint8)
    sizes = random.integers(2, 11, 4096)
    words = np.array([bytes(row[:n]) for row, n in zip(letters, sizes)], object)
    size = number = 0
    while size < megabytes * 1_000_000:
        count = random.integers(20, 2001)
        text = b" ".join(words[random.integers(0, 4096, count)])
        yield f"synthetic {number}", text
        size, number = size + len(text), number + 1


def stdlib_documents(
    root: Path, tests: bool, minimum: int = MIN_STDLIB_BYTES
) -> Iterator[Document]:
    """The *.py files of a standard library, sorted by relative path.

    Raises CorpusError when fewer than `minimum` bytes of sources are there.
    """
    skipped = FOREIGN_FOLDERS if tests else FOREIGN_FOLDERS | TEST_FOLDERS

    def skip(path: Path) -> bool:
        generated = path.name.startswith(GENERATED_PREFIXES)
        return path.name in skipped or generated or hidden(path)

    below = walk(root, skip) if root.is_dir() else []
    files = [path for path in below if path.suffix == ".py"]
    size = sum(path.stat().st_size for path in files)
    if size < minimum:
        raise CorpusError(
            f"{root} holds {size} bytes of Python sources, expected at least "
            f"{minimum}: this Python comes without its library's sources; use "
            "CONFIG_DATASET_LOCAL=y with CONFIG_LOCAL_PATH, or a full Python"
        )
    for path in files:
        yield path.relative_to(root).as_posix(), read(path)
