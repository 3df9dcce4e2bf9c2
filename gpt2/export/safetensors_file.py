"""safetensors files: a JSON header and little-endian tensors, never pickled.

    8 bytes    N, the length of the header, little-endian
    N bytes    JSON: name -> dtype, shape, data_offsets [begin, end); __metadata__
    the rest   the tensors, side by side, without a gap

They are read here and not by the library, which writes them, so that a header is held
against the file before anything of its size is set aside.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2.export.bundle import ExportError, NEEDS
from gpt2.export.papers import shortened, strict_json
from records.files import RecordError, open_record, reading, shown
from records.kinds import Unfit, choice, fields, integer, listed, mapped, text

State = dict[str, torch.Tensor]
LONGEST = 1 << 25
"""Bytes of a header."""
LENGTH = 8
METADATA = "__metadata__"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
MOST_DIMENSIONS = 8


def _unknown(value: Any) -> None:
    raise Unfit("is no field of a tensor")


TENSOR = fields(
    {
        "dtype": choice(*DTYPES),
        "shape": listed(integer(1)),
        "data_offsets": listed(integer(0)),
    },
    {},
    _unknown,
)
HEADER = mapped(TENSOR, text)


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: its bytes begin at `begin` of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    size: int


@dataclass(frozen=True)
class Header:
    """What a file holds; metadata: text by name."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: entry.shape for name, entry in self.tensors.items()}


def write(path: Path, tensors: State, metadata: dict[str, str]) -> None:
    """Write tensors and metadata. Raises ExportError without safetensors."""
    try:
        from safetensors import torch as library
    except ImportError:
        raise ExportError(f"safetensors is not installed: {NEEDS}") from None
    library.save_file(tensors, path, metadata)


def read_header(path: Path) -> Header:
    """The header of a file that holds the tensors it names and nothing else.

    Raises ExportError for any other file.
    """
    try:
        with open_record(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(reading(path, file, LENGTH), "little")
            if size < LENGTH or length > size - LENGTH:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            if length > LONGEST:
                raise ValueError(f"a header of {length} bytes, at most {LONGEST}")
            content = strict_json(reading(path, file, length))
        return _header(content, LENGTH + length, size)
    except FileNotFoundError:
        raise ExportError(f"{shown(path)}: no such file") from None
    except RecordError as error:
        raise ExportError(shortened(error)) from None
    except ValueError as error:
        raise ExportError(
            f"{shown(path)} cannot be read as safetensors: {shortened(error)}"
        ) from None


def _header(content: Any, start: int, size: int) -> Header:
    """The header of that JSON. Raises ValueError."""
    if type(content) is not dict:
        raise ValueError("its header is no object")
    metadata = content.pop(METADATA, {})
    try:
        mapped(text, text)(metadata)
        HEADER(content)
    except Unfit as unfit:
        raise ValueError(f"its header: {unfit}") from None
    entries, end = {}, start
    for name, each in sorted(content.items(), key=lambda item: item[1]["data_offsets"]):
        entry = _entry(name, each, start)
        if entry.begin != end:
            raise ValueError(
                f"{name} begins at byte {entry.begin - start}, the one before it ends at "
                f"{end - start}"
            )
        end += entry.size
        entries[name] = entry
    if end != size:
        raise ValueError(
            f"its tensors end at byte {end - start}, the file at {size - start}"
        )
    return Header(entries, metadata)


def _entry(name: str, each: dict[str, Any], start: int) -> Entry:
    shape, offsets, dtype = each["shape"], each["data_offsets"], DTYPES[each["dtype"]]
    if len(shape) > MOST_DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"{name} has {len(shape)} dimensions, {len(offsets)} offsets")
    wanted = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != wanted:
        raise ValueError(
            f"{name} has {offsets[1] - offsets[0]} bytes, its shape {tuple(shape)} "
            f"in {each['dtype']} needs {wanted}"
        )
    return Entry(dtype, tuple(shape), start + offsets[0], wanted)


def read_tensors(path: Path, header: Header) -> State:
    """The tensors in fp32. Raises ExportError where the file has become shorter."""
    tensors = {}
    with open_record(path) as file:
        for name, entry in header.tensors.items():
            file.seek(entry.begin)
            content = bytearray(entry.size)
            if file.readinto(content) != entry.size:
                raise ExportError(f"{shown(path)} was cut while it was read")
            flat = torch.frombuffer(content, dtype=entry.dtype)
            tensors[name] = flat.view(entry.shape).float()
    return tensors
