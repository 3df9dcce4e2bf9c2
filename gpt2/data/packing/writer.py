"""Writing shards: one split, one document at a time, fit to be interrupted.

A shard has its final name only when it is whole and on the disk; what is
written of the next one lies in SPLIT.part and is started over.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from gpt2.data.shards import (
    HEADER_SIZE,
    Header,
    check_tokens,
    edges_sha256,
    read_header,
)
from records.atomic import sync_directory


class ShardWriter:
    """Writes one split into numbered shards and takes up where it stopped.

    Finished shards that are already in the folder are kept: the caller skips
    the first `finished_documents` documents of the split. A shard ends with
    the document that reaches `shard_tokens`, hence the same documents give
    the same files however often the writing was interrupted.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        dtype: np.dtype,
        vocab_size: int,
        source_sha256: str,
        shard_tokens: int,
    ):
        self.folder, self.split, self.dtype = folder, split, dtype
        self.vocab_size, self.source_sha256 = vocab_size, source_sha256
        self.shard_tokens = shard_tokens
        self.headers: list[Header] = []
        self._file = None
        self._resume()

    @property
    def finished_documents(self) -> int:
        """Documents that lie in finished shards."""
        return sum(header.documents for header in self.headers)

    @property
    def tokens(self) -> int:
        """Tokens written so far, those of the unfinished shard included."""
        open_tokens = self._tokens if self._file is not None else 0
        return sum(header.tokens for header in self.headers) + open_tokens

    @property
    def names(self) -> list[str]:
        """File names of the finished shards."""
        return [self._path(i).name for i in range(len(self.headers))]

    def append(self, tokens: np.ndarray | list[int]) -> None:
        """Tokens of the current document."""
        if self._file is None:
            self._part().unlink(missing_ok=True)
            self._file = open(self._part(), "w+b")
            self._file.write(bytes(HEADER_SIZE))
            self._sha = hashlib.sha256()
            self._tokens = self._documents = self._bytes = 0
        tokens = np.ascontiguousarray(tokens, dtype=self.dtype)
        self._file.write(tokens)
        self._sha.update(tokens)
        self._tokens += len(tokens)

    def end_document(self, text_bytes: int) -> None:
        """The current document is over; it had this many bytes of text."""
        self._documents += 1
        self._bytes += text_bytes
        if self._tokens >= self.shard_tokens:
            self.finish()

    def finish(self) -> None:
        """Write the header, sync, and give the shard its name."""
        if self._file is None:
            return
        path = self._path(len(self.headers))
        self._file.flush()
        tokens = np.memmap(
            self._file, self.dtype, mode="r", offset=HEADER_SIZE, shape=(self._tokens,)
        )
        header = Header(
            self.dtype,
            self.vocab_size,
            self._tokens,
            self._documents,
            self._bytes,
            self._sha.hexdigest(),
            edges_sha256(tokens),
            self.source_sha256,
        )
        self._file.seek(0)
        self._file.write(header.pack())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        os.replace(self._part(), path)
        sync_directory(self.folder)
        self.headers.append(header)

    def close(self) -> None:
        """Let go of an unfinished shard; its .part file is overwritten later."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _resume(self) -> None:
        while (path := self._path(len(self.headers))).exists():
            header = read_header(path)
            check_tokens(path, header)
            self.headers.append(header)

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.split}-{number:05d}.bin"

    def _part(self) -> Path:
        return self.folder / f"{self.split}.part"
