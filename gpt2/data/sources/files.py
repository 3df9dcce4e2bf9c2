"""Files of a corpus: found in byte order of their paths, read or refused."""

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable

# The longer ones first: UTF-32's begins with UTF-16's.
MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class CorpusError(Exception):
    """A corpus that cannot be read; the message names the file and the fix."""


def hidden(path: Path) -> bool:
    """Whether a name starts with a dot."""
    return path.name.startswith(".")


def printable(name: str) -> str:
    """A file's name for a terminal: bytes that are no UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path, skip: Callable[[Path], bool] = hidden) -> list[Path]:
    """Every file below root in byte order of its path. What is skipped is left
    out, with all that a skipped folder holds.

    Links are followed; one that leads to a folder it lies in is an error.
    """
    found: list[Path] = []

    def visit(folder: Path, above: tuple[tuple[int, int], ...]) -> None:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise CorpusError(f"{folder}: this link leads to a folder that holds it")
        for name in os.listdir(folder):
            path = folder / name
            if skip(path):
                continue
            if path.is_dir():
                visit(path, (*above, here))
            else:
                found.append(path)

    try:
        visit(root, ())
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}") from error
    return sorted(found, key=os.fsencode)


def open_file(path: Path) -> BinaryIO:
    """An open regular file. Raises CorpusError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CorpusError(f"{path}: neither a regular file nor a folder")
        return open(path, "rb")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}") from error


def read(path: Path) -> bytes:
    """The bytes of a regular file. Raises CorpusError."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror}") from error


def unmarked(name: str, text: bytes) -> bytes:
    """The bytes of a file, or its first ones, without the byte order mark of UTF-8.

    Raises CorpusError for the mark of another encoding.
    """
    for encoding, marks in MARKS.items():
        if text.startswith(marks):
            raise CorpusError(
                f"{name}: begins with the byte order mark of {encoding}, and UTF-8 is "
                f"read: convert it (iconv -f {encoding} -t UTF-8)"
            )
    return text.removeprefix(codecs.BOM_UTF8)
