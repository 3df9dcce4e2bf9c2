"""Documents of files on this machine, and of several sources by weight.

folder.py says which files are read, and as what.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, Sequence

import pyarrow as arrow
import pyarrow.parquet
import zstandard

from gpt2.data.files import CorpusError, open_file, read
from gpt2.data.folder import (
    JSONL,
    PARQUET,
    CorpusFile,
    Rules,
    UnusableFiles,
    corpus_files,
)

READ_BYTES = 1 << 20
# Windows of zstd --long=31 and below.
ZSTD_WINDOW = 1 << 31

Document = tuple[str, bytes]


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
        yield from _parquet(file.path, field)
    elif file.kind == JSONL:
        yield from _jsonl(file.path, field)
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
    text = read(path)
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


def _jsonl(path: Path, field: str) -> Iterator[Document]:
    """One document a line; lines of nothing but blanks are skipped."""
    opened = {".gz": gzip.open, ".zst": _zstd_lines}.get(path.suffix.lower(), iter)
    with open_file(path) as file:
        try:
            for number, line in enumerate(opened(file), 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield where, _text_of(line, field, where)
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
            raise CorpusError(f"{path}: damaged or cut short: {error}") from error
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror or error}") from error


def _zstd_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of all frames of a zstd file. Raises EOFError within a frame.

    (zstandard's own reader takes the end of a file for the end of a frame.)
    """
    frame, rest = None, b""
    while chunk := file.read(READ_BYTES):
        while chunk:
            frame = frame or _zstd_frame()
            *lines, rest = (rest + frame.decompress(chunk)).split(b"\n")
            yield from lines
            chunk = b""
            if frame.eof:
                chunk, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the file ends within a frame")
    yield rest


def _zstd_frame() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()


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


def _parquet(path: Path, field: str) -> Iterator[Document]:
    """One document a row, read a few thousand rows at a time."""
    with open_file(path) as file:
        try:
            table = arrow.parquet.ParquetFile(file)
            schema = table.schema_arrow
            if field not in schema.names:
                raise CorpusError(
                    f"{path}: no column {field!r} (CONFIG_LOCAL_FIELD); it has "
                    f"{', '.join(schema.names)}"
                )
            kind = schema.field(field).type
            if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
                raise CorpusError(f"{path}: column {field!r} is {kind}, not string")
            number = 0
            for batch in table.iter_batches(batch_size=4096, columns=[field]):
                for value in batch.column(0):
                    number += 1
                    where = f"{path}:{number}"
                    yield where, _cell(value, field, where)
        except (arrow.ArrowException, OSError) as error:
            raise CorpusError(f"{path}: {error}") from error


def _cell(value: "arrow.Scalar", field: str, where: str) -> bytes:
    """The text of a row; parquet does not promise that its strings are UTF-8."""
    if not value.is_valid:
        raise CorpusError(f"{where}: field {field!r} is null")
    text = value.as_buffer().to_pybytes()
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: field {field!r}: {error}") from error
    return text
