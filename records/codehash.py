"""The code of a cell: its hash, and the snapshot that cells run from.

The hash covers the *.py files of the rooms that can change a result, by contents only
(no times, no modes), less those that no training run imports. Cells run from a
snapshot, so editing the checkout while a study runs changes nothing under way. It lies
in the user's cache and holds those files and nothing else: beside them python would
import a numpy.py, bytecode or a shared object that no hash has seen.
"""

import hashlib
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Iterable, Iterator, Mapping

IDENTITY_ROOMS = ("gpt2", "kernels")
# Files, and folders that end in /, of those rooms that work on finished runs, measure
# or compare. Training imports none of them and all else (tests/records/test_codehash.py
# walks its imports), so that editing them leaves a study's cells as they are. gpt2/check
# counts: the entry point imports it.
OUTSIDE = (
    "gpt2/model/mixers/attention/decoder.py",
    "gpt2/data/packing/prepare.py",
    "gpt2/evaluation/",
    "gpt2/export/",
    "gpt2/generation/",
    "gpt2/measure/",
    "kernels/aot.py",
    "kernels/aot_cases.py",
    "kernels/attention/aot.py",
    "kernels/attention/bench.py",
    "kernels/attention/check.py",
    "kernels/decode/aot.py",
    "kernels/decode/check.py",
    "kernels/topk_routing/check.py",
)
SNAPSHOT_ROOMS = ("gpt2", "kernels", "kconf", "records")
FROM_SNAPSHOT = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
"""The environment of what runs from a snapshot and of its children, ranks too: python
-P, no folder is searched because a script lies there, and -B, no bytecode is left.
"""


def source_files(root: Path | str, rooms: Iterable[str]) -> list[Path]:
    """The rooms' *.py files, sorted by relative path.

    Raises FileNotFoundError for a room that is not a directory.
    """
    root = Path(root)
    found: list[Path] = []
    for room in rooms:
        if not (root / room).is_dir():
            raise FileNotFoundError(f"{root / room} is not a directory: no code there")
        found += (root / room).rglob("*.py")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def hash_rooms(
    root: Path | str,
    rooms: Iterable[str] = IDENTITY_ROOMS,
    outside: tuple[str, ...] = OUTSIDE,
) -> tuple[str, dict[str, str]]:
    """(sha256 hex of the rooms' code, {relative path: sha256 hex of the file})."""
    files = {}
    for path in source_files(root, rooms):
        name = path.relative_to(root).as_posix()
        if not any(name == left or _below(name, left) for left in outside):
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest(), files


def _below(name: str, folder: str) -> bool:
    return folder.endswith("/") and name.startswith(folder)


def snapshot(root: Path | str, dest_parent: Path | str) -> Path:
    """A copy of the code that a cell needs, at DEST_PARENT/<hash16>.

    Reused when it is there and intact, rebuilt when it is damaged or holds anything
    else. The name is the hash of what was copied, so a file edited meanwhile cannot
    mislabel it. dest_parent: a folder of this user alone (records/private.py).
    """
    root, dest_parent = Path(root).resolve(), Path(dest_parent).resolve()
    wanted, files = hash_rooms(root, SNAPSHOT_ROOMS, ())
    if _intact(dest_parent / wanted[:16], files):
        return dest_parent / wanted[:16]
    dest_parent.mkdir(parents=True, exist_ok=True)
    fresh = dest_parent / f".new-{secrets.token_hex(4)}"
    try:
        for path in source_files(root, SNAPSHOT_ROOMS):
            copy = fresh / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        copied, files = hash_rooms(fresh, SNAPSHOT_ROOMS, ())
        _install(fresh, dest_parent / copied[:16], files)
    finally:
        if fresh.exists():
            shutil.rmtree(fresh)
    return dest_parent / copied[:16]


def _intact(path: Path, files: Mapping[str, str]) -> bool:
    """Whether these files, {relative path: sha256}, are all there is at `path`."""
    folders = {f"{parent}/" for name in files for parent in Path(name).parents}
    there = set(_entries(path)) if os.path.lexists(path) else set()
    return there == {*folders, *files} and all(
        hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
        for name, digest in files.items()
    )


def _entries(path: Path) -> Iterator[str]:
    """All there is at `path`, by relative names: FOLDER/, FILE, and OTHER@ for what is
    neither, a link above all.
    """
    ahead = [path]
    while ahead:
        each = ahead.pop()
        mode, name = each.lstat().st_mode, each.relative_to(path).as_posix()
        folder, file = stat.S_ISDIR(mode), stat.S_ISREG(mode)
        yield name + ("/" if folder else "" if file else "@")
        ahead += each.iterdir() if folder else []


def _install(fresh: Path, target: Path, files: Mapping[str, str]) -> None:
    """Rename `fresh` to `target`; a damaged directory there makes way."""
    if os.path.lexists(target) and not _intact(target, files):
        damaged = target.with_name(f".damaged-{secrets.token_hex(4)}")
        os.rename(target, damaged)
        _remove(damaged)
    try:
        os.rename(fresh, target)
    except OSError:  # another process was faster
        if not _intact(target, files):
            raise


def _remove(path: Path) -> None:
    """What was renamed: a folder with all it holds, a link, a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
