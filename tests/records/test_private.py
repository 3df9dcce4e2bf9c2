"""A folder is used only when nobody else could have put anything into it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from records import private
from tests.conftest import ROOT

PRECOMPILED = """
from records import private
private.claim()
import os, tempfile
print(os.environ["TORCHINDUCTOR_CACHE_DIR"], tempfile.gettempdir())
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch) -> Path:
    """The user's cache of this test; nothing is there yet."""
    for name in private.CACHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "cache" / "kablate"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_made_for_the_user_alone_whatever_the_umask(mine):
    before = os.umask(0)
    try:
        assert private.cache("code", "a") == mine / "code" / "a"
    finally:
        os.umask(before)
    made = (mine.parent, mine, mine / "code", mine / "code" / "a")
    assert [mode(path) for path in made] == [0o700] * 4


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert private.cache_home() == Path("/h/.cache/kablate")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nobody's home
    with pytest.raises(private.NotPrivate, match="no home directory: set XDG_"):
        private.cache_home()


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_refused(mine, bits):
    folder = private.cache("inductor")
    folder.chmod(bits)
    with pytest.raises(private.NotPrivate) as refused:
        private.cache("inductor")
    assert str(refused.value) == (
        f"{folder} has mode {bits:o}: others may write there: chmod go-w it, remove "
        f"it, or set XDG_CACHE_HOME to another folder ({folder})"
    )
    folder.chmod(0o755)
    assert private.cache("inductor") == folder


@pytest.mark.parametrize("level", ["cache", "cache/kablate", "cache/kablate/code"])
def test_everything_above_it_counts(mine, tmp_path, level):
    folder = private.cache("code", "a")
    (tmp_path / level).chmod(0o777)
    with pytest.raises(private.NotPrivate, match=f"{level} has mode 777"):
        private.cache("code", "a")
    (tmp_path / level).chmod(0o1777)  # like /tmp: nobody can rename what is ours
    if level == "cache":
        assert private.cache("code", "a") == folder
    else:  # but put something beside it
        with pytest.raises(private.NotPrivate, match=f"{level} has mode 1777"):
            private.cache("code", "a")


def test_a_folder_of_somebody_else_is_refused(mine, monkeypatch):
    folder, uid = private.cache("code"), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 4711)
    with pytest.raises(private.NotPrivate, match=f"{folder} belongs to uid {uid}: "):
        private.private_folder(folder)


def test_a_folder_in_that_of_somebody_else_is_refused(mine, monkeypatch, tmp_path):
    """They could rename it and put another one in its place."""
    folder, lstat = private.cache("code"), Path.lstat

    def foreign(path):
        info = list(lstat(path))
        info[stat.ST_UID] += 4711 * (path == tmp_path)
        return os.stat_result(info)

    monkeypatch.setattr(Path, "lstat", foreign)
    with pytest.raises(private.NotPrivate, match=f"{tmp_path} belongs to uid"):
        private.private_folder(folder)


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_what_is_no_folder_is_refused(mine, tmp_path, kind):
    private.cache()
    if kind == "file":
        (mine / "inductor").touch()
    else:
        (mine / "inductor").symlink_to(tmp_path if kind == "link" else "nowhere")
    with pytest.raises(private.NotPrivate, match="inductor is no folder"):
        private.cache("inductor")


def test_what_cannot_be_made_is_refused_with_what_helps(mine, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(private.NotPrivate) as refused:
        private.cache("code")
    assert str(refused.value) == (
        f"{mine} cannot be made: Not a directory: mend that, or set XDG_CACHE_HOME to "
        f"another folder ({mine})"
    )


def test_a_cache_that_the_user_names_is_looked_at_too(mine, tmp_path):
    given = tmp_path / "given"
    given.mkdir(0o700)
    asked = {"TORCHINDUCTOR_CACHE_DIR": str(given), "TMPDIR": str(tmp_path)}
    found = private.compile_caches(asked)
    assert found == {
        "TORCHINDUCTOR_CACHE_DIR": str(given),
        "TRITON_CACHE_DIR": str(mine / "triton"),
        "TMPDIR": str(tmp_path / private.shared_name()),
    }
    assert private.compile_caches(found) == found, "the second time nothing moves"
    given.chmod(0o770)
    with pytest.raises(private.NotPrivate, match="or set TORCHINDUCTOR_CACHE_DIR"):
        private.compile_caches(asked)


def claimed(**environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PRECOMPILED],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_process_claims_its_caches_or_ends(mine, tmp_path):
    tmp = tmp_path / "tmp" / private.shared_name()
    assert claimed().stdout == f"{mine / 'inductor'} {tmp}\n"
    tmp.chmod(0o707)
    done = claimed()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {tmp} has mode 707: others may write there: chmod go-w it, remove it, "
        f"or set TMPDIR to another folder ({tmp})\n"
    )
