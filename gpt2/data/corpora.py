"""Corpora: where documents come from, always in the same order.

`documents` yields (name, bytes) for the corpus that the settings name; the
name is for messages only, never part of a hash. A document is bytes and stays
bytes: nothing is decoded, so a Latin-1 source file is the document it is.
Empty documents are yielded too; `scan` counts them and everyone skips them.
"""

import hashlib
import json
import os
import platform
import stat
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

from gpt2.settings import DataSettings

TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__"})
# Written by a build or by a packager, not part of a release's sources.
GENERATED_PREFIXES = ("_sysconfigdata", "config-", "sitecustomize", "usercustomize")
# The smallest complete release has about 9 MB; a stripped one far less.
MIN_STDLIB_BYTES = 5_000_000

Document = tuple[str, bytes]


class CorpusError(Exception):
    """A corpus that cannot be read; the message names the file and the fix."""


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
    """Read the whole corpus once. Raises CorpusError, also when it is empty."""
    found = SourceHash()
    for _, text in documents(settings):
        found.add(text)
    source = found.result()
    if source.documents == 0:
        raise CorpusError(
            f"{describe(settings)} holds no text ({source.empty} empty documents)"
        )
    return source


def documents(settings: DataSettings) -> Iterator[Document]:
    """(name, bytes) of every document in order. Raises CorpusError."""
    if settings.corpus == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        return stdlib_documents(root, settings.stdlib_tests)
    if settings.corpus == "local":
        return local_documents(Path(settings.local_path), settings.local_field)
    raise CorpusError(f"corpus {settings.corpus!r} is unknown: stdlib or local")


class Scanned:
    """A corpus that was read once, to be read again while it is packed."""

    revision = None

    def __init__(self, settings: DataSettings, source: Source):
        self.settings, self.source = settings, source
        self.description = describe(settings)
        self.rows = source.documents
        self._again = SourceHash()
        self._reading: Iterator[Document] = iter(())

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
    if settings.corpus == "local":
        return f"CONFIG_LOCAL_PATH={settings.local_path}"
    tests = "with" if settings.stdlib_tests else "without"
    return f"the standard library of Python {platform.python_version()} {tests} tests"


def stdlib_documents(
    root: Path, tests: bool, minimum: int = MIN_STDLIB_BYTES
) -> Iterator[Document]:
    """The *.py files of a standard library, sorted by relative path.

    Raises CorpusError when fewer than `minimum` bytes of sources are there.
    """
    skipped = FOREIGN_FOLDERS if tests else FOREIGN_FOLDERS | TEST_FOLDERS

    def skip(name: str) -> bool:
        return name in skipped or name.startswith(GENERATED_PREFIXES) or _hidden(name)

    below = _walk(root, skip) if root.is_dir() else []
    files = [path for path in below if path.suffix == ".py"]
    size = sum(path.stat().st_size for path in files)
    if size < minimum:
        raise CorpusError(
            f"{root} holds {size} bytes of Python sources, expected at least "
            f"{minimum}: this Python comes without its library's sources; use "
            "CONFIG_DATASET_LOCAL=y with CONFIG_LOCAL_PATH, or a full Python"
        )
    for path in files:
        yield path.relative_to(root).as_posix(), _read(path)


def local_documents(path: Path, field: str) -> Iterator[Document]:
    """The documents of a text file, a .jsonl file or a folder of them."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CorpusError(f"CONFIG_LOCAL_PATH={path}: {error.strerror}") from error
    files = _walk(path) if stat.S_ISDIR(mode) else [path]
    for file in files:
        if file.suffix == ".jsonl":
            yield from _jsonl(file, field)
        else:
            text = _read(file)
            if b"\0" in text:
                raise CorpusError(
                    f"{file}: byte {text.index(0)} is NUL, so this is no UTF-8 "
                    "text; move it out of the corpus or convert it"
                )
            yield str(file), text


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _walk(root: Path, skip: Callable[[str], bool] = _hidden) -> list[Path]:
    """Every file below root in byte order of its path, without skipped names.

    Links are followed; one that leads to a folder it lies in is an error.
    """
    found: list[Path] = []

    def visit(folder: Path, above: tuple[tuple[int, int], ...]) -> None:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise CorpusError(f"{folder}: this link leads to a folder that holds it")
        for name in os.listdir(folder):
            path = folder / name
            if skip(name):
                continue
            if path.is_dir():
                visit(path, (*above, here))
            else:
                found.append(path)

    try:
        visit(root, ())
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}") from error
    return sorted(found, key=os.fsencode)


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CorpusError(f"{path}: neither a regular file nor a folder")
        return open(path, "rb")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    with _open(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror}") from error


def _jsonl(path: Path, field: str) -> Iterator[Document]:
    """One document a line; lines of nothing but blanks are skipped."""
    with _open(path) as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield where, _text_of(line, field, where)
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror}") from error


def _text_of(line: bytes, field: str, where: str) -> bytes:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorpusError(
            f"{where}: a {type(record).__name__}, expected an object with a "
            f"field {field!r}"
        )
    if field not in record:
        raise CorpusError(
            f"{where}: no field {field!r} (CONFIG_LOCAL_FIELD); it has "
            f"{', '.join(sorted(record)) or 'none'}"
        )
    text = record[field]
    if not isinstance(text, str):
        raise CorpusError(
            f"{where}: field {field!r} is {text!r:.40}, expected a string"
        )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(f"{where}: field {field!r}: {error}") from error
