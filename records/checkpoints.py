"""Resume checkpoints as files: which there are, and which are intact.

checkpoint/step-NNNNNNNNN.pt is torch's zip archive; NNNNNNNNN counts completed
steps. What it holds: gpt2/training/checkpoint.py.
"""

import functools
import re
import zipfile
from pathlib import Path

NAME = re.compile(r"step-([0-9]{1,18})\.pt")
DAMAGED = (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError)
"""What zipfile raises for a file that is cut or overwritten."""


def existing(directory: Path) -> list[Path]:
    """The checkpoints, by step; what is no file of such a name is none."""
    named = [p for p in directory.glob("step-*.pt") if NAME.fullmatch(p.name)]
    return sorted(filter(Path.is_file, named))


def step_of(path: Path) -> int:
    """The completed steps that a checkpoint's name states."""
    return int(NAME.fullmatch(path.name)[1])


def require_intact(path: Path) -> None:
    """Raise BadZipFile unless every checksum of the archive holds, OSError where it
    cannot be read. torch writes checksums and does not read them: a flipped bit would
    become another weight. It compresses nothing: what is compressed it did not write,
    and could expand to any size.
    """
    with zipfile.ZipFile(path) as archive:
        packed = [each.filename for each in archive.infolist() if each.compress_type]
        if packed:
            raise zipfile.BadZipFile(
                f"{packed[0]} is compressed, torch writes it plain"
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is not what was written")


def newest_intact(directory: Path) -> Path | None:
    """The checkpoint that the next attempt goes on from, None where there is none.

    Each file is read once per process, as long as it stays what it is.
    """
    for path in reversed(existing(directory)):
        info = path.stat()
        if _intact(path, info.st_ino, info.st_size, info.st_mtime_ns):
            return path
    return None


@functools.lru_cache(maxsize=None)
def _intact(path: Path, *identity: int) -> bool:
    try:
        require_intact(path)
    except DAMAGED:
        return False
    return True
