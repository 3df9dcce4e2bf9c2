"""The text of a corpus in Hugging Face's form, and no other column.

The `datasets` library finds the files, and reads every column of them: one whose type
changes, or that another file lacks, ends it. Here the tables of JSON, parquet and CSV
are made of the text alone. They have the rows that the library's have, so that a
position it noted before stays one.
"""

import io
import json
from functools import partial
from typing import Any, Iterable, Iterator

import datasets
import pandas
import pyarrow as arrow
import pyarrow.parquet
from datasets.builder import Key
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.utils.file_utils import xgetsize, xopen

from gpt2.data.sources.expand import DAMAGED, Expansion, READ_BYTES, lines, pieces
from gpt2.data.sources.files import CorpusError, unmarked
from gpt2.data.sources.rows import line_text, parquet_groups, record_text

FIELD = "text"
# How the library names what it unpacks while it reads.
KINDS = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}

Tables = Iterator[tuple[Key, arrow.Table]]


def text_only(builder: datasets.DatasetBuilder) -> None:
    """Let a builder read FIELD alone, where it reads JSON, parquet or CSV."""
    readers = {Json: _json_tables, Parquet: _parquet_tables, Csv: _csv_tables}
    for kind, tables in readers.items():
        if isinstance(builder, kind):
            builder.info.features = datasets.Features({FIELD: datasets.Value("string")})
            builder._generate_tables = partial(tables, builder)


def _table(texts: list[bytes]) -> arrow.Table:
    return arrow.table({FIELD: arrow.array(texts, arrow.string())})


def _access(builder: datasets.DatasetBuilder) -> datasets.DownloadConfig:
    return datasets.DownloadConfig(
        token=builder.token, storage_options=builder.storage_options
    )


def _contents(
    builder: datasets.DatasetBuilder, base: str, file: str
) -> Iterator[bytes]:
    """What `file` holds, which is `base` or lies in it, compressed; in pieces."""
    access, kind = _access(builder), KINDS.get(file.partition("://")[0])
    if file == base:
        with xopen(file, "rb", download_config=access) as part:
            yield from iter(lambda: part.read(READ_BYTES), b"")
        return
    expansion = Expansion(base, xgetsize(base, download_config=access))
    try:
        if kind and file.endswith(f"::{base}"):
            with xopen(base, "rb", download_config=access) as whole:
                yield from pieces(whole, kind, expansion)
            return
        with xopen(file, "rb", download_config=access) as part:
            while piece := part.read(READ_BYTES):
                expansion.add(len(piece))
                yield piece
    except DAMAGED as error:
        raise CorpusError(f"{base}: damaged or cut short: {error}") from error


class _Stream(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, found: Iterator[bytes]):
        self._found, self._held = found, b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, none at the end."""
        while not self._held:
            piece = next(self._found, None)
            if piece is None:
                return 0
            self._held = piece
        count = min(len(buffer), len(self._held))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count


def _json_tables(
    builder: Json,
    base_files: list[str],
    files_iterables: list[Iterable[str]],
    original_files: list[str],
) -> Tables:
    for shard, (base, files) in enumerate(zip(base_files, files_iterables)):
        for file in files:
            found = lines(_contents(builder, base, file), file)
            texts, held, number = [], 0, 0
            for size, text in _json_rows(found, file):
                texts.append(text)
                held += size
                if held > builder.config.chunksize:
                    yield Key(shard, number), _table(texts)
                    texts, held, number = [], 0, number + 1
            if texts:
                yield Key(shard, number), _table(texts)


def _json_rows(found: Iterator[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """(bytes of the line, text) of JSON lines, or of one array of objects or texts,
    which is a line of no bytes for each: one table.
    """
    for number, line in enumerate(found, 1):
        line = unmarked(name, line) if number == 1 else line
        if number == 1 and line.lstrip().startswith(b"["):
            try:
                every = json.loads(b"\n".join([line, *found]), parse_int=float)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{name}: not JSON: {error}") from error
            for place, item in enumerate(every, 1):
                record = {FIELD: item} if isinstance(item, str) else item
                yield 0, record_text(record, FIELD, f"{name}[{place}]", "")
            return
        if line.strip():
            yield len(line) + 1, line_text(line, FIELD, f"{name}:{number}", "")


def _parquet_tables(
    builder: Parquet, files: list[str], row_groups_list: list[None]
) -> Tables:
    access = _access(builder)
    for shard, file in enumerate(files):
        size = xgetsize(file, download_config=access)
        with xopen(file, "rb", download_config=access) as source:
            number, most = 0, None
            for group in parquet_groups(file, source, size, FIELD, ""):
                texts = [text for _, text in group]
                most = most or len(texts)
                for start in range(0, len(texts), most or 1):
                    yield Key(shard, number), _table(texts[start : start + most])
                    number += 1


def _csv_tables(
    builder: Csv, base_files: list[str], files_iterables: list[Iterable[str]]
) -> Tables:
    how = builder.config.pd_read_csv_kwargs
    how |= {"usecols": [FIELD], "dtype": {FIELD: str}, "keep_default_na": False}
    for shard, (base, files) in enumerate(zip(base_files, files_iterables)):
        for file in files:
            stream = io.BufferedReader(_Stream(_contents(builder, base, file)))
            frames = pandas.read_csv(stream, iterator=True, **how)
            for number, frame in enumerate(frames):
                texts = [text.encode() for text in frame[FIELD]]
                yield Key(shard, number), _table(texts)
