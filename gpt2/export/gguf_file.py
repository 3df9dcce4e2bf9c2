"""The beginning of a GGUF file, version 2 or 3: fields and a table of tensors.

    "GGUF", version u32, tensors u64, fields u64
    a field    name, type u32, value; a list: type u32, count u64, values
    a tensor   name, dimensions u32, sizes u64 (the fastest first), type u32, offset u64
    text       length u64, UTF-8

All little-endian. Tensors begin at a multiple of the alignment. gguf's own reader takes
the counts and lengths at their word, however large; here each is held against the file
before anything is read by it. Tensors are read here as well, of the types that `make
export` writes.
"""

import math

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.export import q8_0
from gpt2.export.bundle import ExportError
from gpt2.export.papers import shortened
from records.files import RecordError, open_record, reading, shown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LONGEST = 1 << 25
"""Bytes of fields and table."""
ALIGNMENT, ALIGNED = "general.alignment", 32
MOST_DIMENSIONS = 4
STRING, LIST = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a number, by its type."""
UINT32 = 4
TYPES = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
Q8_0 = 8
"""The types of tensors, by their numbers."""


@dataclass(frozen=True)
class Entry:
    """A tensor: `shape` with the fastest dimension last, its type's number, and where
    its bytes begin in the file.
    """

    shape: tuple[int, ...]
    kind: int
    begin: int


@dataclass(frozen=True)
class Header:
    """What a file says: its fields of text, its tensors."""

    texts: Mapping[str, str]
    tensors: Mapping[str, Entry]
    size: int


class _Cursor:
    """A place in the beginning of a file; ValueError beyond its end, which ends every
    count, for nothing that is counted has no bytes.
    """

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def skip(self, count: int) -> None:
        """Go on by `count` bytes."""
        if count > len(self.content) - self.at:
            raise ValueError(f"{count} bytes at {self.at} go beyond its end")
        self.at += count

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        self.skip(size)
        return int.from_bytes(self.content[self.at - size : self.at], "little")

    def text(self) -> str:
        """A text."""
        size = self.number(8)
        self.skip(size)
        return self.content[self.at - size : self.at].decode("utf-8")

    def value(self, kind: int) -> str | int | None:
        """A value: text, an unsigned number of 4 bytes, None for what is passed over."""
        if kind == STRING:
            return self.text()
        if kind == UINT32:
            return self.number(4)
        if kind == LIST:
            self._list()
        elif kind in SIZES:
            self.skip(SIZES[kind])
        else:
            raise ValueError(f"a field of the type {kind}, at byte {self.at}")
        return None

    def _list(self) -> None:
        kind, count = self.number(4), self.number(8)
        if kind in SIZES:
            self.skip(SIZES[kind] * count)
        elif kind == STRING:
            for _ in range(count):
                self.skip(self.number(8))
        else:
            raise ValueError(f"a list of the type {kind}, at byte {self.at}")

    def fields(self, count: int) -> dict[str, str | int]:
        """So many fields: those of text, and the alignment."""
        found: dict[str, str | int] = {}
        seen: set[str] = set()
        for _ in range(count):
            name, kind = self.text(), self.number(4)
            if name in seen:
                raise ValueError(f"the field {name!r} stands twice")
            seen.add(name)
            value = self.value(kind)
            if value is not None:
                found[name] = value
        return found

    def tensors(self, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """So many entries of the table: sizes, type and offset."""
        found = {}
        for _ in range(count):
            name, dimensions = self.text(), self.number(4)
            if not 1 <= dimensions <= MOST_DIMENSIONS:
                raise ValueError(f"{name!r} has {dimensions} dimensions")
            if name in found:
                raise ValueError(f"the tensor {name!r} stands twice")
            sizes = tuple(self.number(8) for _ in range(dimensions))
            found[name] = (sizes[::-1], self.number(4), self.number(8))
        return found


def read_header(path: Path) -> Header:
    """What the file says of itself. Raises ExportError for one that is not as above, or
    goes beyond its end.
    """
    try:
        with open_record(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            cursor = _Cursor(reading(path, file, LONGEST))
        return _header(cursor, size)
    except FileNotFoundError:
        raise ExportError(f"{shown(path)}: no such file") from None
    except RecordError as error:
        raise ExportError(shortened(error)) from None
    except ValueError as error:
        raise ExportError(
            f"{shown(path)} cannot be read as GGUF: {shortened(error)}"
        ) from None


def _header(cursor: _Cursor, size: int) -> Header:
    cursor.skip(len(MAGIC))
    version, tensors, fields = (cursor.number(n) for n in (4, 8, 8))
    if version not in VERSIONS:
        raise ValueError(f"version {version}, this code reads {VERSIONS}")
    found = cursor.fields(fields)
    alignment = found.get(ALIGNMENT, ALIGNED)
    if type(alignment) is not int or alignment not in (1 << n for n in range(17)):
        raise ValueError(f"{ALIGNMENT} is {alignment!r}")
    table = cursor.tensors(tensors)
    start = -(-cursor.at // alignment) * alignment
    entries = {
        name: Entry(shape, kind, start + offset)
        for name, (shape, kind, offset) in table.items()
    }
    texts = {name: value for name, value in found.items() if type(value) is str}
    return Header(texts, entries, size)


def read_tensor(path: Path, header: Header, name: str) -> torch.Tensor:
    """The values of a tensor in fp32. Raises ExportError for one whose type is another or
    whose bytes go beyond the end of the file.
    """
    entry = header.tensors[name]
    try:
        content = torch.frombuffer(
            _content(path, header, entry, _bytes(entry)), dtype=torch.uint8
        )
    except ValueError as error:
        raise ExportError(
            f"{shown(path)} cannot be read as GGUF: {shortened(name)} {error}"
        ) from None
    if entry.kind == Q8_0:
        return q8_0.restored(content.view(-1, q8_0.BYTES)).view(entry.shape)
    return content.view(TYPES[entry.kind]).view(entry.shape).float()


def _bytes(entry: Entry) -> int:
    """How many bytes the tensor has. Raises ValueError."""
    count = math.prod(entry.shape)
    if entry.kind in TYPES:
        return count * TYPES[entry.kind].itemsize
    if entry.kind != Q8_0:
        raise ValueError(
            f"has the type {entry.kind}, `make export` writes {[*TYPES, Q8_0]}"
        )
    if entry.shape[-1] % q8_0.BLOCK:
        raise ValueError(
            f"has rows of {entry.shape[-1]} values, no whole blocks of {q8_0.BLOCK}"
        )
    return count // q8_0.BLOCK * q8_0.BYTES


def _content(path: Path, header: Header, entry: Entry, size: int) -> bytearray:
    if entry.begin + size > header.size:
        raise ValueError(
            f"ends at byte {entry.begin + size}, the file at {header.size}"
        )
    content = bytearray(size)
    with open_record(path) as file:
        file.seek(entry.begin)
        if file.readinto(content) != size:
            raise ExportError(f"{shown(path)} was cut while it was read")
    return content
