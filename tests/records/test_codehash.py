"""The hash of rooms is that of their code, and a snapshot is that code."""

import os
import shutil
from pathlib import Path

import pytest

from records.codehash import IDENTITY_ROOMS, SNAPSHOT_ROOMS, hash_rooms, snapshot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "checkout"
    for room in SNAPSHOT_ROOMS:
        (base / room / "inner").mkdir(parents=True)
        (base / room / "__init__.py").touch()
        (base / room / "inner" / "a.py").write_text(f"ROOM = {room!r}\n")
    return base


def test_contents_and_names_count_and_nothing_else(root: Path):
    before, files = hash_rooms(root, IDENTITY_ROOMS)
    assert set(files) == {
        f"{room}/{name}"
        for room in ("gpt2", "kernels")
        for name in ("__init__.py", "inner/a.py")
    }
    target = root / "gpt2" / "inner" / "a.py"
    target.touch()
    (root / "gpt2" / "Kconfig").write_text("x")
    (root / "kconf" / "b.py").write_text("x = 1\n")
    assert hash_rooms(root, IDENTITY_ROOMS)[0] == before
    target.write_text("ROOM = 'edited'\n")
    edited = hash_rooms(root, IDENTITY_ROOMS)[0]
    assert edited != before
    target.rename(target.with_name("b.py"))
    assert hash_rooms(root, IDENTITY_ROOMS)[0] not in (before, edited)


def test_a_missing_room_is_an_error(root: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="elsewhere/gpt2"):
        hash_rooms(tmp_path / "elsewhere", IDENTITY_ROOMS)


def test_snapshot_is_reused_and_holds_the_code(root: Path, tmp_path: Path):
    store, before = tmp_path / "store", hash_rooms(root, SNAPSHOT_ROOMS)
    first = snapshot(root, store)
    assert hash_rooms(first, SNAPSHOT_ROOMS) == before
    assert (first / "kconf" / "inner" / "a.py").exists()
    inode = first.stat().st_ino
    assert snapshot(root, store) == first and first.stat().st_ino == inode
    (root / "records" / "inner" / "a.py").write_text("ROOM = 'edited'\n")
    assert snapshot(root, store) != first
    assert hash_rooms(first, SNAPSHOT_ROOMS) == before, "the old snapshot changed"


def made(path: Path, content: str = "x = 1\n") -> None:
    """A file, in folders that may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def linked(path: Path) -> None:
    """The file is moved out of the snapshot, and a link to it takes its place."""
    outside = next(p for p in path.parents if p.name == "store").with_name("outside")
    path.rename(outside)
    path.symlink_to(outside)


def turned(path: Path) -> None:
    """A folder with the file's name."""
    path.unlink()
    path.mkdir()


A = "gpt2/inner/a.py"
DAMAGE = {
    "edited": lambda at: (at / A).write_text("ROOM = 'tampered'\n"),
    "removed": lambda at: (at / A).unlink(),
    "a module more": lambda at: made(at / "gpt2/inner/b.py"),
    "a module beside the rooms": lambda at: made(at / "numpy.py"),
    "a package beside the rooms": lambda at: made(at / "numpy/__init__.py"),
    "a namespace package": lambda at: (at / "numpy").mkdir(),
    "an empty folder in a room": lambda at: (at / "gpt2/inner/a").mkdir(),
    "site's own": lambda at: made(at / "sitecustomize.py"),
    "a path file": lambda at: made(at / "a.pth"),
    "bytecode": lambda at: made(at / "gpt2/inner/__pycache__/a.cpython-311.pyc"),
    "bytecode without a source": lambda at: made(at / "gpt2/argparse.pyc"),
    "a shared object": lambda at: made(at / "gpt2/inner/a.abi3.so"),
    "what no python reads": lambda at: made(at / "gpt2/Kconfig"),
    "a hidden file": lambda at: made(at / ".x"),
    "a linked file": lambda at: linked(at / A),
    "a linked folder": lambda at: (at / "numpy").symlink_to(at.parents[1]),
    "a link to nowhere": lambda at: (at / "gpt2/b").symlink_to("nowhere"),
    "a pipe": lambda at: os.mkfifo(at / "gpt2/b.py"),
    "a folder for a file": lambda at: turned(at / A),
    "an empty folder for all": lambda at: (shutil.rmtree(at), at.mkdir()),
    "a file for all": lambda at: (shutil.rmtree(at), at.touch()),
    "a link for all": lambda at: linked(at),
    "a dangling link for all": lambda at: (shutil.rmtree(at), at.symlink_to("no")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_snapshot_that_is_not_the_code_and_nothing_else_is_rebuilt(
    root: Path, tmp_path: Path, damage: str
):
    store = tmp_path / "below" / "the" / "store"
    first = snapshot(root, store)
    DAMAGE[damage](first)
    assert snapshot(root, store) == first
    files = hash_rooms(root, SNAPSHOT_ROOMS)[1]
    found = {path for path in first.rglob("*") if not path.is_dir()}
    assert {path.relative_to(first).as_posix() for path in found} == set(files)
    assert hash_rooms(first, SNAPSHOT_ROOMS)[1] == files
    assert not any(p.is_symlink() for p in [first, *first.rglob("*")])
    folders = {path.name for path in first.rglob("*") if path.is_dir()}
    assert folders == {*SNAPSHOT_ROOMS, "inner"}
    assert [path.name for path in store.iterdir()] == [first.name]


def test_a_failed_copy_leaves_nothing(root: Path, tmp_path: Path, monkeypatch):
    def refuse(source: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(OSError, match="disk full"):
        snapshot(root, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_the_faster_of_two_processes_wins(root: Path, tmp_path: Path, monkeypatch):
    store, rename = tmp_path / "store", os.rename

    def lose_the_race(source: Path, target: Path) -> None:
        monkeypatch.setattr("os.rename", rename)
        snapshot(root, store)
        rename(source, target)

    monkeypatch.setattr("os.rename", lose_the_race)
    path = snapshot(root, store)
    assert hash_rooms(path, SNAPSHOT_ROOMS) == hash_rooms(root, SNAPSHOT_ROOMS)
    assert list(store.iterdir()) == [path]
