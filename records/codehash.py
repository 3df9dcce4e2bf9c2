"""The code of a cell: its hash, and the snapshot that cells run from.

The hash covers what the cell's process and the processes that it starts import of
gpt2/ and kernels/, wherever the import stands, by contents only (no times, no modes).
What a module declares as chosen (records/imports.py) counts where the cell's symbols
choose it: a new optimizer or mixer leaves all other cells as they are. Checks, exports,
reports and benchmarks are imported by no run and do not count.

Cells run from a snapshot, so editing the checkout while a study runs changes nothing
under way. It lies in the user's cache and holds the files of its rooms and nothing
else: beside them python would import a numpy.py, bytecode or a shared object that no
hash has seen.
"""

import hashlib
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from records import imports
from records.imports import CodeError

RULE = 2
"""By which rule the files that count are found; `code_rule` of an identity.

1, and every record without one: the *.py files of gpt2/ and kernels/ less a list of
those that no run imported. The list went with the code that it was a list of, so a
run's own `code_files` says which they were. 2: those that Code.of follows. By either
rule the hash is `combined` of the run's `code_files`.
"""
IDENTITY_ROOMS = ("gpt2", "kernels")
ENTRY = "gpt2.train_ra_mla"
"""What is started to train a cell."""
SNAPSHOT_ROOMS = ("gpt2", "kernels", "kconf", "records")
FROM_SNAPSHOT = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
"""The environment of what runs from a snapshot and of its children, ranks too: python
-P, no folder is searched because a script lies there, and -B, no bytecode is left.
"""


class Code:
    """The code below a root, as it was when each file was first asked for."""

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self._files: dict[str, Path | None] = {}
        self._sources: dict[Path, imports.Source] = {}

    def of(self, values: Mapping[str, Any], entry: str = ENTRY) -> dict[str, str]:
        """{relative path: sha256 hex} of what a cell with these symbols' values runs,
        from the module `entry` on.

        Raises CodeError for an entry or a chosen module that is not there, and for
        what cannot be followed; OSError.
        """
        found: dict[str, str] = {}
        ahead, seen = self._whole(entry), set()
        while ahead:
            module = ahead.pop()
            path = None if module in seen else self._file(module)
            seen.add(module)
            if path is None:
                continue
            name = path.relative_to(self.root).as_posix()
            try:
                source = self._source(path)
                found[name] = source.digest
                ahead += source.imports
                for other, conditions in source.chosen.items():
                    if any(imports.holds(each, values) for each in conditions):
                        ahead += self._whole(other)
            except CodeError as error:
                raise CodeError(f"{name}: {error}") from None
        return dict(sorted(found.items()))

    def _whole(self, module: str) -> list[str]:
        """A module that must be there, and the packages around it."""
        if self._file(module) is None:
            raise CodeError(f"no module {module} below {self.root}")
        return imports.prefixes(module)

    def _file(self, module: str) -> Path | None:
        """The file of a module of IDENTITY_ROOMS, None of any other name."""
        if module not in self._files:
            path = self.root.joinpath(*module.split("."))
            found = (path / "__init__.py", path.with_name(f"{path.name}.py"))
            ours = module.split(".")[0] in IDENTITY_ROOMS
            there = (file for file in found if ours and file.is_file())
            self._files[module] = next(there, None)
        return self._files[module]

    def _source(self, path: Path) -> imports.Source:
        if path not in self._sources:
            self._sources[path] = imports.read(path.read_bytes())
        return self._sources[path]


def combined(files: Mapping[str, str]) -> str:
    """sha256 hex of files, {relative path: sha256 hex}."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


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


def hash_rooms(root: Path | str, rooms: Iterable[str]) -> tuple[str, dict[str, str]]:
    """(sha256 hex of all of the rooms' code, {relative path: sha256 hex of the file})."""
    files = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source_files(root, rooms)
    }
    return combined(files), files


def snapshot(root: Path | str, dest_parent: Path | str) -> Path:
    """A copy of the code that a cell needs, at DEST_PARENT/<hash16>.

    Reused when it is there and intact, rebuilt when it is damaged or holds anything
    else. The name is the hash of what was copied, so a file edited meanwhile cannot
    mislabel it. dest_parent: a folder of this user alone (records/private.py).
    """
    root, dest_parent = Path(root).resolve(), Path(dest_parent).resolve()
    wanted, files = hash_rooms(root, SNAPSHOT_ROOMS)
    if _intact(dest_parent / wanted[:16], files):
        return dest_parent / wanted[:16]
    dest_parent.mkdir(parents=True, exist_ok=True)
    fresh = dest_parent / f".new-{secrets.token_hex(4)}"
    try:
        for path in source_files(root, SNAPSHOT_ROOMS):
            copy = fresh / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        copied, files = hash_rooms(fresh, SNAPSHOT_ROOMS)
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
