"""Compressed files, read in pieces up to a limit.

A few kilobytes can expand to gigabytes. What comes out of a file is counted, and
above the larger of LEAST bytes and EXPANSION times its size it is an error, before
more than a piece of it is in memory.
"""

import bz2
import lzma
import zlib
from typing import Any, BinaryIO, Iterator

import zstandard

from gpt2.data.sources.files import CorpusError

EXPANSION = 1000
"""Times its own size that a compressed file may hold; text has 2 to 50."""
LEAST = 1 << 26
LONGEST = 1 << 30
"""Bytes of a line in a compressed file."""
# What a line or row counts besides its bytes: an empty one takes time too.
ROW_BYTES = 8
READ_BYTES = 1 << 20
# What is decompressed at once: of zstd at most 32 MiB can come out of it.
STEP = 1 << 10
# Windows of zstd --long=31 and below; memory of xz -9 and below.
ZSTD_WINDOW = 1 << 31
XZ_MEMORY = 1 << 27

ENGINES = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".zst": lambda: zstandard.ZstdDecompressor(
        max_window_size=ZSTD_WINDOW
    ).decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY),
}
DAMAGED = (EOFError, zlib.error, zstandard.ZstdError, lzma.LZMAError)


class Expansion:
    """What has come out of a file of `size` bytes, up to `limit`."""

    def __init__(self, name: str, size: int):
        self.name, self.size = name, size
        self.limit = max(LEAST, EXPANSION * size)
        self.count = 0

    def add(self, count: int) -> None:
        """So many bytes more. Raises CorpusError."""
        self.count += count
        self.require(self.count)

    def require(self, count: int) -> None:
        """Raise CorpusError for more than the limit."""
        if count > self.limit:
            raise CorpusError(
                f"{self.name}: its {self.size:,} bytes expand to more than "
                f"{self.limit:,}: if that is right, unpack the file, or raise EXPANSION "
                f"({EXPANSION}) in gpt2/data/sources/expand.py (docs/data.md)"
            )


def pieces(file: BinaryIO, kind: str, expansion: Expansion) -> Iterator[bytes]:
    """What a file of the kind ".gz", ".zst", ".bz2" or ".xz" holds, all its members.

    Raises CorpusError above the limit, EOFError for a file that ends within a member
    (zstandard's own reader takes that for the end) and others of DAMAGED.
    """
    engine: Any = None
    while read := file.read(READ_BYTES):
        for start in range(0, len(read), STEP):
            chunk = read[start : start + STEP]
            while chunk:
                engine = engine or ENGINES[kind]()
                piece = engine.decompress(chunk)
                expansion.add(len(piece) + ROW_BYTES * piece.count(b"\n"))
                yield piece
                chunk = b""
                if engine.eof:
                    chunk, engine = engine.unused_data.lstrip(b"\0"), None
    if engine is not None:
        raise EOFError("the file ends within a frame")


def lines(found: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The lines of pieces, without their ends. Raises CorpusError for one that is
    longer than LONGEST.
    """
    parts, held = [], 0
    for piece in found:
        *whole, last = piece.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line])
            parts, held = [], 0
        parts.append(last)
        held += len(last)
        if held > LONGEST:
            raise CorpusError(
                f"{name}: a line of more than {LONGEST:,} bytes: if that is right, "
                "unpack the file, or raise LONGEST in gpt2/data/sources/expand.py (docs/data.md)"
            )
    yield b"".join(parts)
