"""Documents of JSON lines and of parquet: one field of each row, and no other.

What the other fields hold, and of which type, is never looked at: it may differ from
file to file and from row to row.
"""

import json
from contextlib import contextmanager
from itertools import chain, count
from typing import Any, BinaryIO, Iterable, Iterator

import pyarrow as arrow
import pyarrow.parquet

from gpt2.data.sources.expand import DAMAGED, Expansion, ROW_BYTES, lines, pieces
from gpt2.data.sources.files import CorpusError, unmarked

Document = tuple[str, bytes]

# Read at once, of rows whose texts are told apart by number (a dictionary).
ROWS = 1024
TEXT = ("string", "large_string", "string_view", "binary", "large_binary")
TEXT += ("binary_view",)
FIELD_SYMBOL = " (CONFIG_LOCAL_FIELD)"


def jsonl(
    name: str,
    file: BinaryIO,
    size: int,
    kind: str,
    field: str,
    symbol: str = FIELD_SYMBOL,
) -> Iterator[Document]:
    """(name:line, text) of every line that is not blank.

    size: of the file; kind: how it is compressed (expand.ENGINES), "" for not at
    all; symbol: what chooses the field, for messages. Raises CorpusError.
    """
    found: Iterable[bytes] = file
    if kind:
        found = lines(pieces(file, kind, Expansion(name, size)), name)
    try:
        for number, line in enumerate(found, 1):
            line = unmarked(name, line) if number == 1 else line
            if line.strip():
                where = f"{name}:{number}"
                yield where, line_text(line, field, where, symbol)
    except DAMAGED as error:
        raise CorpusError(f"{name}: damaged or cut short: {error}") from error
    except OSError as error:
        raise CorpusError(f"{name}: {error.strerror or error}") from error


def line_text(line: bytes, field: str, where: str, symbol: str) -> bytes:
    """The text of a line of JSON. Raises CorpusError."""
    try:
        record = json.loads(line.decode("utf-8"), parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not a line of JSON: {error}") from error
    return record_text(record, field, where, symbol)


def _number(digits: str) -> int | float:
    """A number elsewhere may have more digits than Python makes an int of."""
    return int(digits) if len(digits) < 1000 else float(digits)


def record_text(record: Any, field: str, where: str, symbol: str) -> bytes:
    """The text of a JSON object. Raises CorpusError."""
    if not isinstance(record, dict):
        raise CorpusError(
            f"{where}: a {type(record).__name__}, expected an object with a "
            f"field {field!r}"
        )
    if field not in record:
        raise CorpusError(
            f"{where}: no field {field!r}{symbol}; it has "
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


def parquet(
    name: str, file: BinaryIO, size: int, field: str, symbol: str = FIELD_SYMBOL
) -> Iterator[Document]:
    """(name:row, text) of every row. Raises CorpusError."""
    return chain.from_iterable(parquet_groups(name, file, size, field, symbol))


def parquet_groups(
    name: str, file: BinaryIO, size: int, field: str, symbol: str
) -> Iterator[Iterator[Document]]:
    """The rows of each row group in turn, each group to be read to its end.

    Texts are read as a dictionary: one that a million rows share is there once.
    """
    expansion, numbers = Expansion(name, size), count(1)
    with _naming(name):
        schema = arrow.parquet.read_metadata(file).schema.to_arrow_schema()
        _require_text(name, schema, field, symbol)
        table = arrow.parquet.ParquetFile(file, read_dictionary=[field])
    for group in range(table.num_row_groups):
        expansion.require(_uncompressed(table.metadata.row_group(group), field))
        yield _group(name, table, group, field, expansion, numbers)


def _group(
    name: str,
    table: "arrow.parquet.ParquetFile",
    group: int,
    field: str,
    expansion: Expansion,
    numbers: Iterator[int],
) -> Iterator[Document]:
    with _naming(name):
        for batch in table.iter_batches(ROWS, [group], [field]):
            values = batch.column(0).dictionary
            for index in batch.column(0).indices.to_pylist():
                where = f"{name}:{next(numbers)}"
                if index is None or not values[index].is_valid:
                    raise CorpusError(f"{where}: field {field!r} is null")
                text = values[index].as_buffer().to_pybytes()
                expansion.add(len(text) + ROW_BYTES)
                yield where, _utf8(text, field, where)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What is wrong with a parquet file becomes a CorpusError that names it."""
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        raise CorpusError(f"{name}: {error}") from error


def _require_text(name: str, schema: "arrow.Schema", field: str, symbol: str) -> None:
    if field not in schema.names:
        raise CorpusError(
            f"{name}: no column {field!r}{symbol}; it has {', '.join(schema.names)}"
        )
    kind = schema.field(field).type
    kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
    if str(kind) not in TEXT:
        raise CorpusError(f"{name}: column {field!r} is {kind}, not string")


def _uncompressed(group: "arrow.parquet.RowGroupMetaData", field: str) -> int:
    """Bytes of a column's pages in a row group, as the file says."""
    columns = map(group.column, range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == field)


def _utf8(text: bytes, field: str, where: str) -> bytes:
    """The text; parquet does not promise that its strings are UTF-8."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: field {field!r}: {error}") from error
    return text
