"""Documents of files on this machine, and of several sources by weight.

folder.py says which files are read, and as what.
"""

import os
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from gpt2.data.sources.expand import ENGINES
from gpt2.data.sources.files import CorpusError, open_file, read, unmarked
from gpt2.data.sources.folder import (
    CorpusFile,
    JSONL,
    PARQUET,
    Rules,
    UnusableFiles,
    corpus_files,
)
from gpt2.data.sources.rows import Document, jsonl, parquet


def local_documents(
    path: Path,
    field: str,
    symbol: str = "CONFIG_LOCAL_PATH",
    *,
    rules: Rules = (),
    shuffled: bool = False,
    utf8: bool = False,
    faults: list[tuple[str, str]] | None = None,
) -> Iterator[Document]:
    """(name, bytes) of the documents of a file or of every file in a folder.

    field: of a jsonl record or parquet row that holds the text. symbol: the
    one that names the path. rules, shuffled: of corpus_files. utf8: whether
    text must be UTF-8. faults: takes (path below the corpus, message) of every
    file that cannot be read to its end; without it the first is raised as a
    CorpusError, those that are of no known kind together.
    """
    try:
        path.stat()
    except OSError as error:
        raise CorpusError(f"{symbol}={path}: {error.strerror}") from error
    chosen = corpus_files(path, rules, shuffled)
    if chosen.refused and faults is None:
        raise UnusableFiles(f"{symbol}={path}", chosen.refused)
    if faults is not None:
        faults += chosen.refused
    for file in chosen.files:
        try:
            yield from _documents(file, field, utf8)
        except CorpusError as error:
            if faults is None:
                raise
            faults.append((file.name, str(error)))


def _documents(file: CorpusFile, field: str, utf8: bool) -> Iterator[Document]:
    if file.kind == PARQUET:
        yield from _rows(file.path, field)
    elif file.kind == JSONL:
        yield from _lines(file.path, field)
    else:
        yield str(file.path), _text(file.path, utf8)


def interleave(
    readers: Sequence[Iterable[Document]], weights: Sequence[float]
) -> Iterator[Document]:
    """Documents of several sources so that their bytes keep to the weights.

    The next document is of the source that is furthest behind: the smallest
    bytes / weight, the first of equals. It ends when that source has no more:
    beyond, the shares would not hold.
    """
    sources = [iter(reader) for reader in readers]
    taken = [0] * len(sources)
    while True:
        behind = min(range(len(sources)), key=lambda n: taken[n] / weights[n])
        document = next(sources[behind], None)
        if document is None:
            return
        taken[behind] += len(document[1])
        yield document


def _text(path: Path, utf8: bool) -> bytes:
    text = unmarked(str(path), read(path))
    if b"\0" in text:
        raise CorpusError(f"{path}: byte {text.index(0)} is NUL, so this is no text")
    if utf8:
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}: no UTF-8 at byte {error.start}; only CONFIG_TOKENIZER_BYTE "
                "takes other bytes"
            ) from error
    return text


def _lines(path: Path, field: str) -> Iterator[Document]:
    kind = path.suffix.lower()
    kind = kind if kind in ENGINES else ""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        yield from jsonl(str(path), file, size, kind, field)


def _rows(path: Path, field: str) -> Iterator[Document]:
    with open_file(path) as file:
        yield from parquet(str(path), file, os.fstat(file.fileno()).st_size, field)
