"""A file is the old one or the new one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from records import atomic

DIE = """
import os, sys
from records import atomic
os.replace = lambda *_: os._exit(9)
atomic.write_text(sys.argv[1], "new")
"""


def test_replaces_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")
    atomic.write_json(path, {"é": 1})
    assert path.read_text(encoding="utf-8") == '{\n "é": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_respects_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a"
    atomic.write_text(path, "old")
    done = subprocess.run([sys.executable, "-c", DIE, str(path)], check=False)
    assert done.returncode == 9
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2, "the temporary file was complete"


def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch):
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def refuse(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_beat_is_not_flushed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    atomic.write_bytes(tmp_path / "a", b"x", durable=False)
    assert (tmp_path / "a").read_bytes() == b"x"
