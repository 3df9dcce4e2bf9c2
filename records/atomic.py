"""Files that are either the old ones or the new ones, never half of each.

Every record that is not append-only is written through this module: a
temporary file in the same directory, flushed to the disk, renamed over the
target, and the rename itself flushed. A crash at any moment leaves the old
file (or none) and at worst a `.NAME.HEX.tmp` beside it. What is written often and
means nothing after a power cut, a beat, is not flushed (`durable`).
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Path | str, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends without an error.

    Raises OSError (disk full, read-only) with the target untouched.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def write_bytes(path: Path | str, data: bytes, durable: bool = True) -> None:
    """Replace the file at `path` by `data`."""
    with replacing(path, durable) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Replace the file at `path` by `value` as indented JSON.

    A byte of a file's name that is no UTF-8 appears as ?: no reader takes a half of a
    character.
    """
    data = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, data.encode("utf-8", "replace"))


def sync_directory(path: Path | str) -> None:
    """Flush a directory, so that a rename inside it survives a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
