"""W&B's real client against a loopback server, and its real offline files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("wandb", reason="the extra requirements-wandb.txt")

from matrix.published.run import PublishedError  # noqa: E402
from matrix.published.sources import Query, fetch, local  # noqa: E402
from matrix.trackers.session import CURRENT, state  # noqa: E402
from records import jsonl  # noqa: E402
from tests.matrix.synthetic import Cell  # noqa: E402
from tests.matrix.wandb_server import ENTITY, WandbServer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef0123456789abcdef01234567"
pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    """The loopback server; an operation that it does not know fails the test."""
    made = WandbServer()
    yield made
    made.close()
    assert made.unknown == []


@pytest.fixture
def environment(server, tmp_path, monkeypatch):
    """An account on the server, a home of its own, no other W&B variable."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    found = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(home)}
    found |= {"WANDB_CONFIG_DIR": str(home), "WANDB_CACHE_DIR": str(home / "cache")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def mirror(path: Path, mode: str = "online", tags: tuple[str, ...] = ()) -> None:
    """One go of a mirror, in a process of its own, to the cell's present end."""
    program = "import json, sys; from pathlib import Path\n"
    program += "from matrix.trackers.session import Session\n"
    program += "from matrix.trackers.sink import Target\n"
    program += "path, mode, tags = json.loads(sys.argv[1])\n"
    program += "target = Target('wandb', 'kablate', '', mode)\n"
    program += "Session(Path(path), target, tags, live=False).end()"
    given = json.dumps([str(path), mode, list(tags)])
    done = subprocess.run(
        [sys.executable, "-c", program, given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def cell(tmp_path: Path, step: str = "00-control", **options) -> Path:
    options = {"losses": (4.0, 3.5, 3.0), **options}
    return Cell(step, 1, **options).finish(tmp_path / "results", "study")


class TestOnline:
    def test_what_was_logged_is_read_back(self, tmp_path, server, environment):
        path = cell(tmp_path)
        mirror(path, tags=("control",))
        query = Query("wandb", "", "kablate", "study", ("00-control-s1",))
        [found] = fetch(query)
        there = local(path)
        assert found.history == there.history
        assert found.config == there.config
        assert (found.id, found.name, found.group) == (there.id, there.name, "study")
        assert found.tags == ("control",)
        assert "GetDefaultEntity" in server.asked or "Viewer" in server.asked
        print(server.asked)
