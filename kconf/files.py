"""Reading a file that a person wrote, and naming one."""

import errno
import os
import stat
from pathlib import Path

MOST = 1 << 24


def read_regular(path: Path) -> bytes:
    """The content of a regular file. Raises OSError, also for a pipe, a device and a
    file of more than MOST bytes: neither is waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "is not a file", str(path))
        if info.st_size > MOST:
            raise OSError(errno.EFBIG, f"is longer than {MOST >> 20} MiB", str(path))
        with open(fd, "rb", closefd=False) as stream:
            return stream.read(MOST)
    finally:
        os.close(fd)


def shown(path: Path) -> str:
    """The path as a message shows it: relative when it is below the directory."""
    absolute, here = os.path.abspath(path), os.getcwd()
    inside = absolute.startswith(here.rstrip(os.sep) + os.sep)
    return os.path.relpath(absolute, here) if inside else absolute
