"""Packed shards: a header of 192 bytes, then little-endian tokens.

    0    8  magic "KABSHARD"
    8    4  version, u32
   12    4  bytes per token, u32: 2 or 4
   16    8  vocabulary, u64
   24    8  tokens, u64
   32    8  documents, u64; a document that the tail split cuts counts in both splits
   40    8  bytes of text, separators not counted, u64
   48   32  sha256 of the tokens
   80   32  sha256 of their first and last MiB (quick check of a large file)
  112   32  sha256 of the corpus (corpora.Source)
  144   32  sha256 of the 144 bytes above
  176   16  zero

A shard has its final name only when it is whole and on the disk.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from records.manifest import Manifest

MAGIC = b"KABSHARD"
VERSION = 1
HEADER_SIZE = 192
EDGE_BYTES = 1 << 20
# Above this a split is opened on its headers, sizes and edges alone.
FULL_HASH_BYTES = 1 << 30
READ_BYTES = 1 << 24

_FIELDS = struct.Struct("<8sIIQQQQ32s32s32s")


class ShardError(Exception):
    """A shard that is not what the manifest promises."""

    def __init__(self, path: Path, found: object, expected: object):
        self.path, self.why = path, f"found {found}, expected {expected}"
        super().__init__(f"{path}: {self.why}; `make data` rebuilds it")


@dataclass(frozen=True)
class Header:
    """What a shard says about itself; hashes are hex."""

    dtype: np.dtype
    vocab_size: int
    tokens: int
    documents: int
    bytes: int
    sha256: str
    edges_sha256: str
    source_sha256: str

    def pack(self) -> bytes:
        """The 192 bytes."""
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.dtype.itemsize,
            self.vocab_size,
            self.tokens,
            self.documents,
            self.bytes,
            bytes.fromhex(self.sha256),
            bytes.fromhex(self.edges_sha256),
            bytes.fromhex(self.source_sha256),
        )
        return (fields + hashlib.sha256(fields).digest()).ljust(HEADER_SIZE, b"\0")


def read_header(path: Path) -> Header:
    """The header of a shard whose size fits it. Raises ShardError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_SIZE)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ShardError(path, error.strerror, "a shard") from error
    if len(raw) < HEADER_SIZE:
        raise ShardError(path, f"{size} bytes", f"a header of {HEADER_SIZE} bytes")
    fields = raw[: _FIELDS.size]
    magic, version, itemsize, vocab, tokens, documents, text, *hashes = _FIELDS.unpack(
        fields
    )
    if magic != MAGIC:
        raise ShardError(path, f"magic {magic!r}", f"{MAGIC!r}")
    if version != VERSION:
        raise ShardError(path, f"version {version}", f"version {VERSION}")
    if raw[_FIELDS.size :] != hashlib.sha256(fields).digest() + bytes(16):
        raise ShardError(path, "a damaged header", "a header that fits its checksum")
    if itemsize not in (2, 4):
        raise ShardError(path, f"{itemsize} bytes per token", "2 or 4")
    if tokens == 0:
        raise ShardError(path, "0 tokens", "at least 1")
    if size != HEADER_SIZE + tokens * itemsize:
        raise ShardError(
            path, f"{size} bytes", f"{HEADER_SIZE + tokens * itemsize} bytes"
        )
    return Header(
        np.dtype(f"<u{itemsize}"),
        vocab,
        tokens,
        documents,
        text,
        *(digest.hex() for digest in hashes),
    )


def map_tokens(path: Path, header: Header) -> np.ndarray:
    """The tokens of a shard, memory-mapped read-only, (tokens,)."""
    tokens = np.memmap(
        path, header.dtype, mode="r", offset=HEADER_SIZE, shape=(header.tokens,)
    )
    return tokens.view(np.ndarray)  # a memmap slices more slowly


def edges_sha256(tokens: np.ndarray) -> str:
    """sha256 of the first and the last MiB; they overlap in a small shard."""
    count = EDGE_BYTES // tokens.itemsize
    found = hashlib.sha256(np.ascontiguousarray(tokens[:count]))
    found.update(np.ascontiguousarray(tokens[-count:]))
    return found.hexdigest()


def check_tokens(path: Path, header: Header, *running: "hashlib._Hash") -> None:
    """Hash every token against the header; feed `running` hashes on the way."""
    tokens = map_tokens(path, header)
    own = hashlib.sha256()
    for start in range(0, header.tokens, READ_BYTES):
        piece = np.ascontiguousarray(tokens[start : start + READ_BYTES])
        for sha in (own, *running):
            sha.update(piece)
    if own.hexdigest() != header.sha256:
        raise ShardError(path, f"content {own.hexdigest()}", header.sha256)


def open_split(
    directory: Path, manifest: Manifest, split: str, full: bool | None = None
) -> list[np.ndarray]:
    """The memory-mapped shards of a split, checked against the manifest.

    Headers, sizes and sums are always checked. `full` hashes every token,
    False only each shard's first and last MiB (which finds a file cut short
    and filled up, or replaced, in constant time per shard, but not a flipped
    bit in the middle); None is full up to FULL_HASH_BYTES.

    Raises ShardError, naming the file.
    """
    want = manifest.splits[split]
    dtype = np.dtype(manifest.dtype)
    if full is None:
        full = want.tokens * dtype.itemsize <= FULL_HASH_BYTES
    shards, headers = [], []
    stream = hashlib.sha256()
    for name in want.files:
        path = directory / name
        header = read_header(path)
        for what, found, expected in (
            ("dtype", header.dtype.str, dtype.str),
            ("vocabulary", header.vocab_size, manifest.vocab_size),
            ("corpus", header.source_sha256, manifest.source_sha256),
        ):
            if found != expected:
                raise ShardError(path, f"{what} {found}", f"{what} {expected}")
        tokens = map_tokens(path, header)
        if full:
            check_tokens(path, header, stream)
        elif (edges := edges_sha256(tokens)) != header.edges_sha256:
            raise ShardError(path, f"first and last MiB {edges}", header.edges_sha256)
        headers.append(header)
        shards.append(tokens)
    for what in ("tokens", "documents", "bytes"):
        total, expected = sum(getattr(h, what) for h in headers), getattr(want, what)
        if total != expected:
            raise ShardError(
                directory, f"{total} {what} in split {split}", f"{expected}"
            )
    if full and stream.hexdigest() != want.sha256:
        raise ShardError(
            directory, f"split {split} of content {stream.hexdigest()}", want.sha256
        )
    return shards
