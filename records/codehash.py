"""The code of a cell: its hash, and the snapshot that cells run from.

The hash covers the *.py files of the rooms that can change a result, by contents only
(no times, no modes), less those that no training run imports. Cells run from a
snapshot, so editing the checkout while a study runs changes nothing under way.
"""

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Iterable

IDENTITY_ROOMS = ("gpt2", "kernels")
# Files, and folders that end in /, of those rooms that work on finished runs, measure
# or compare. Training imports none of them and all else (tests/records/test_codehash.py
# walks its imports), so that editing them leaves a study's cells as they are. gpt2/check
# counts: the entry point imports it.
OUTSIDE = (
    "gpt2/attention/decoding.py",
    "gpt2/bench.py",
    "gpt2/data/prepare.py",
    "gpt2/data/smoke.py",
    "gpt2/evaluation/",
    "gpt2/export/",
    "gpt2/generate.py",
    "gpt2/measure/",
    "gpt2/sampling.py",
    "gpt2/textstream.py",
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

    Reused when it is there and intact, rebuilt when it is damaged. The name is
    the hash of what was copied, so a file edited meanwhile cannot mislabel it.
    """
    root, dest_parent = Path(root).resolve(), Path(dest_parent).resolve()
    wanted, _ = hash_rooms(root, SNAPSHOT_ROOMS, ())
    if _intact(dest_parent / wanted[:16], wanted):
        return dest_parent / wanted[:16]
    dest_parent.mkdir(parents=True, exist_ok=True)
    fresh = dest_parent / f".new-{secrets.token_hex(4)}"
    try:
        for path in source_files(root, SNAPSHOT_ROOMS):
            copy = fresh / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        copied, _ = hash_rooms(fresh, SNAPSHOT_ROOMS, ())
        _install(fresh, dest_parent / copied[:16], copied)
    finally:
        if fresh.exists():
            shutil.rmtree(fresh)
    return dest_parent / copied[:16]


def _intact(path: Path, wanted: str) -> bool:
    rooms = all((path / room).is_dir() for room in SNAPSHOT_ROOMS)
    return rooms and hash_rooms(path, SNAPSHOT_ROOMS, ())[0] == wanted


def _install(fresh: Path, target: Path, wanted: str) -> None:
    """Rename `fresh` to `target`; a damaged directory there makes way."""
    if target.exists() and not _intact(target, wanted):
        damaged = target.with_name(f".damaged-{secrets.token_hex(4)}")
        os.rename(target, damaged)
        shutil.rmtree(damaged)
    try:
        os.rename(fresh, target)
    except OSError:  # another process was faster
        if not _intact(target, wanted):
            raise
