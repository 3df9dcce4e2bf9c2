"""Opening a record that anybody may have put there: a regular file, or an error.

A directory, a pipe, a device or a link into nothing where a record belongs would
be an endless wait or an error of the system in the middle of a plan; here each is
a RecordError that names the file.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Iterator

CHUNK = 1 << 20
LONGEST = 1 << 24
"""Bytes of a record in one piece, and of a row: what the harness writes has a tenth."""
KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def shown(text: object) -> str:
    """Text on one line for any terminal and file: line ends, control characters and
    bytes that are no UTF-8 appear as escapes.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


class RecordError(ValueError):
    """A record that cannot be read; the message names the file and the cause."""

    def __init__(self, path: Path | str, why: str):
        self.path, self.why = Path(path), shown(why)
        super().__init__(f"{shown(path)}: {self.why}")


def open_record(path: Path | str) -> BinaryIO:
    """The regular file at `path`, to be read.

    Raises FileNotFoundError where nothing is, RecordError where anything else is or
    the system refuses it.
    """
    try:
        # a pipe that nobody writes must not keep the reader waiting
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        target = os.readlink(path)
        raise RecordError(path, f"is a link to {target}, which is not there") from None
    except OSError as error:
        what = "is a socket" if error.errno == errno.ENXIO else error.strerror
        raise RecordError(path, f"cannot be read: {what}") from None
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return open(fd, "rb", buffering=CHUNK)
    os.close(fd)
    kind = next((name for test, name in KINDS if test(mode)), "a device")
    raise RecordError(path, f"is {kind}, not a file")


def read_bytes(path: Path | str) -> bytes:
    """The whole file. Raises what open_record raises, RecordError beyond LONGEST."""
    with open_record(path) as file:
        data = reading(path, file, LONGEST + 1)
    if len(data) > LONGEST:
        raise RecordError(path, f"is longer than {LONGEST >> 20} MiB")
    return data


def lines(path: Path | str) -> Iterator[bytes]:
    """The lines of a file one by one, each with the newline that ends it.

    A line without its newline is the last: what another process adds to it, and after
    it, while the file is read belongs to the next reading. Raises what open_record
    raises, RecordError for a line beyond LONGEST.
    """
    with open_record(path) as file:
        number = 0
        while line := _line(path, file):
            number += 1
            if len(line) > LONGEST:
                why = f"line {number} is longer than {LONGEST >> 20} MiB"
                raise RecordError(path, why)
            yield line
            if not line.endswith(b"\n"):
                return


def reading(path: Path | str, file: BinaryIO, most: int) -> bytes:
    """Up to `most` bytes; RecordError where the disk does not give them."""
    try:
        return file.read(most)
    except OSError as error:
        raise RecordError(path, f"cannot be read: {error.strerror}") from None


def _line(path: Path | str, file: BinaryIO) -> bytes:
    try:
        return file.readline(LONGEST + 1)
    except OSError as error:
        raise RecordError(path, f"cannot be read: {error.strerror}") from None
