"""What helps when the system refuses a file: by its own reason, and only by that.

A ConnectionError or a FileNotFoundError is an OSError too, and no disk caused it.
"""

import errno

HELP = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there or have the quota raised",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "free the permissions there",
    errno.EPERM: "free the permissions there",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EEXIST: "something else stands there; move it away",
    errno.EIO: "look after the disk (dmesg)",
    errno.ESTALE: "mount the file server again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
"""Of a disk or of what stands between it and a process."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Less to be written would do."""
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
"""Nothing can be written there."""
ELSEWHERE = (errno.ENOSPC, errno.EDQUOT, *CLOSED)
"""Reasons that another folder need not have."""


def explanation(error: OSError, elsewhere: str) -> str:
    """The file, the system's reason, and what helps if that is known; for a folder
    that is full or closed, `elsewhere` too.
    """
    if error.strerror is None:
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if error.errno not in HELP:
        return text
    other = f", {elsewhere}" if error.errno in ELSEWHERE else ""
    return f"{text}: {HELP[error.errno]}{other}"
