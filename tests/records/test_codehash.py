"""The hash is that of the code, and a snapshot is that code."""

import os
from pathlib import Path

import pytest

from records.codehash import SNAPSHOT_ROOMS, hash_rooms, snapshot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "checkout"
    for room in SNAPSHOT_ROOMS:
        (base / room / "inner").mkdir(parents=True)
        (base / room / "__init__.py").touch()
        (base / room / "inner" / "a.py").write_text(f"ROOM = {room!r}\n")
    return base


def test_contents_and_names_count_and_nothing_else(root: Path):
    before, files = hash_rooms(root)
    assert set(files) == {
        f"{room}/{name}"
        for room in ("gpt2", "kernels")
        for name in ("__init__.py", "inner/a.py")
    }
    target = root / "gpt2" / "inner" / "a.py"
    target.touch()
    (root / "gpt2" / "Kconfig").write_text("x")
    (root / "kconf" / "b.py").write_text("x = 1\n")
    assert hash_rooms(root)[0] == before
    target.write_text("ROOM = 'edited'\n")
    edited = hash_rooms(root)[0]
    assert edited != before
    target.rename(target.with_name("b.py"))
    assert hash_rooms(root)[0] not in (before, edited)


def test_a_missing_room_is_an_error(root: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="elsewhere/gpt2"):
        hash_rooms(tmp_path / "elsewhere")


def test_snapshot_is_reused_and_holds_the_code(root: Path, tmp_path: Path):
    store = tmp_path / "store"
    first = snapshot(root, store)
    assert hash_rooms(first) == hash_rooms(root)
    assert (first / "kconf" / "inner" / "a.py").exists()
    inode = first.stat().st_ino
    assert snapshot(root, store) == first and first.stat().st_ino == inode
    (root / "records" / "inner" / "a.py").write_text("ROOM = 'edited'\n")
    assert snapshot(root, store) != first
    assert hash_rooms(first) == hash_rooms(root), "the old snapshot changed"


@pytest.mark.parametrize("damage", ["edit", "remove", "add"])
def test_a_damaged_snapshot_is_rebuilt(root: Path, tmp_path: Path, damage: str):
    store = tmp_path / "store"
    first = snapshot(root, store)
    victim = first / "gpt2" / "inner" / "a.py"
    if damage == "edit":
        victim.write_text("ROOM = 'tampered'\n")
    elif damage == "remove":
        victim.unlink()
    else:
        victim.with_name("extra.py").write_text("x = 1\n")
    assert snapshot(root, store) == first
    assert hash_rooms(first, SNAPSHOT_ROOMS) == hash_rooms(root, SNAPSHOT_ROOMS)
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
    assert hash_rooms(path) == hash_rooms(root)
    assert list(store.iterdir()) == [path]
