"""W&B's real client against a loopback server, and its real offline files."""

import base64
import json
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import pytest

wandb = pytest.importorskip("wandb", reason="the extra requirements-wandb.txt")

from matrix.published.run import PublishedError, PublishedRun  # noqa: E402
from matrix.published.selection import Query  # noqa: E402
from matrix.published.sources import fetch, local  # noqa: E402
from matrix.trackers.session import state  # noqa: E402
from matrix.trackers.wandb_files import records, segments  # noqa: E402
from records import jsonl  # noqa: E402
from records.layout import CellDir  # noqa: E402
from tests.matrix.synthetic import Cell  # noqa: E402
from tests.matrix.wandb_server import WandbServer  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
KEY = "0123456789abcdef0123456789abcdef01234567"
pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    """The loopback server; an operation that it does not know fails the test."""
    made = WandbServer()
    yield made
    made.close()
    assert made.unknown == []


@pytest.fixture(autouse=True)
def account(server, tmp_path, monkeypatch):
    """A key for the server, a home of its own, no other W&B variable."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    found = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(home)}
    found |= {"WANDB_CONFIG_DIR": str(home), "WANDB_CACHE_DIR": str(home / "cache")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # what an earlier test left of its account


def by_key(run: PublishedRun) -> dict[str, dict[int, object]]:
    """{name: {step: value}}: rows of two files may come in another order."""
    return {key: run.series(key) for key in sorted(run.keys) if key != "step"}


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )


def mirror(path: Path, mode: str = "online", tags: tuple[str, ...] = ()) -> None:
    """One go of a mirror, in a process of its own, to the cell's present end."""
    program = "import json, sys; from pathlib import Path\n"
    program += "from matrix.trackers.session import Session\n"
    program += "from matrix.trackers.target import Target\n"
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


def unfinished(tmp_path: Path) -> CellDir:
    """A cell whose model was built."""
    found = Cell("00-control", 1, (4.0,)).start(tmp_path / "results", "study")
    add(found, [{"kind": "facts", "attempt": 1, "step": 0, "micro_batch": 8}])
    return found


def add(found: CellDir, rows: list[dict], name: str = "metrics.jsonl") -> None:
    with jsonl.open_append(found.path / name) as file:
        for row in rows:
            file.append(row)


def train(*steps: int, attempt: int = 1) -> list[dict]:
    head = {"kind": "train", "attempt": attempt}
    return [{**head, "step": step, "loss": 4.0 - step / 8} for step in steps]


def gpu(step: int) -> dict:
    row = {"attempt": 1, "time": 1e9 + step, "step": step}
    return row | {"gpu/compute_util_avg": 40.0, "gpu/0/power_w": 490.0}


def ask(**options) -> list[PublishedRun]:
    return fetch(Query(**{"source": "wandb", "study": "study", **options}))


@contextmanager
def killed_when(there: Callable[[], bool], found: CellDir, mode: str) -> Iterator[None]:
    """A mirror beside the cell; kill -9 once `there`, and after what follows."""
    target = {"tracker": "wandb", "project": "kablate", "entity": "", "mode": mode}
    command = [sys.executable, "-m", "matrix.trackers.mirror", json.dumps(target)]
    mirror = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)
    mirror.stdin.write(json.dumps({"start": str(found.path)}) + "\n")
    mirror.stdin.flush()
    deadline = time.monotonic() + 120
    while not there():
        assert time.monotonic() < deadline, "the mirror sent nothing"
        time.sleep(0.05)
    yield
    mirror.kill()
    mirror.wait()
    mirror.stdin.close()


def wait_for_the_end_of_its_service(found: CellDir) -> None:
    """W&B's own process notices that the mirror is gone, and ends its file."""
    deadline = time.monotonic() + 120
    files = set(segments(found.path / "mirror"))
    while files & set(opened()):
        assert time.monotonic() < deadline, "W&B's process goes on"
        time.sleep(0.1)


def opened() -> Iterator[Path]:
    """The files that any process has open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            yield link.readlink()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue


class TestOnline:
    def test_what_was_logged_is_read_back(self, tmp_path, server):
        path = cell(tmp_path)
        add(CellDir(path), [gpu(50), gpu(100)], "gpu.jsonl")
        mirror(path, tags=("control",))
        [found] = ask(names=("00-control-s1",))
        there = local(path)
        assert by_key(found) == by_key(there)
        assert found.config == there.config
        assert (found.id, found.name, found.group) == (there.id, there.name, "study")
        assert (found.step, found.tags) == ("00-control", ("control",))
        assert state(path, "wandb")["url"].startswith(server.url)

    def test_a_resumed_run_is_one_run(self, tmp_path, server):
        found = unfinished(tmp_path)
        for rows in (train(0, 1, 2), train(3), train(2, 3, 4, attempt=2)):
            add(found, rows)
            mirror(found.path)
        [run] = server.runs.values()
        assert [row["_step"] for row in run.history] == list(range(7))
        [read] = ask()
        assert by_key(read) == by_key(local(found.path))
        assert [row["attempt"] for row in read.history] == [1, 1, 1, 1, 2, 2, 2]

    def test_kill_9_leaves_no_row_twice(self, tmp_path, server):
        found = unfinished(tmp_path)
        add(found, train(*range(30)))
        for first in (30, 60, 90):

            def there() -> bool:
                runs = server.runs.values()
                return sum(len(run.history) for run in runs) >= first - 5

            with killed_when(there, found, "online"):
                add(found, train(*range(first, first + 30)))
        mirror(found.path)
        [run] = server.runs.values()
        assert [row["_step"] for row in run.history] == list(range(120))
        assert [row["step"] for row in run.history] == list(range(120))

    def test_a_verdict_becomes_a_tag(self, tmp_path, server):
        path = cell(tmp_path)
        mirror(path)
        mirror(path, tags=("NEUTRAL",))
        [run] = ask()
        assert run.tags == ("NEUTRAL",) and len(run.history) == 4

    def test_the_event_stream(self, tmp_path, server):
        mirror(cell(tmp_path))
        server.samples = [
            {"_timestamp": 1e9 + n, "system.gpu.0.powerWatts": 400.0 + n}
            for n in (0, 9)
        ]
        [run] = ask()
        assert run.events == [
            {"time": 1e9, "gpu/0/power_w": 400.0},
            {"time": 1e9 + 9, "gpu/0/power_w": 409.0},
        ]

    def test_an_offline_study_is_uploaded_later(self, tmp_path, server):
        path = cell(tmp_path)
        mirror(path, mode="offline")
        assert server.runs == {}
        mirror(path)
        [run] = ask()
        assert by_key(run) == by_key(local(path))

    @pytest.mark.parametrize(
        "options, cause",
        [
            ({"project": "nothing"}, "nothing"),
            ({"names": ("08-mla",)}, "no run '08-mla' in your default entity/kablate"),
            ({"study": "other"}, "no run in your default entity/kablate, group other"),
        ],
    )
    def test_what_is_not_there(self, tmp_path, server, options, cause):
        mirror(cell(tmp_path))
        with pytest.raises(PublishedError, match=cause):
            ask(**options)

    def test_no_key(self, server, monkeypatch):
        monkeypatch.delenv("WANDB_API_KEY")
        done = script("inspect_wandb_keys.py", "--entity", "team")
        assert done.returncode == 1 and "API key" in done.stderr
        assert "Traceback" not in done.stderr


def test_no_credential_is_written(tmp_path, server, monkeypatch):
    """Neither the key of the environment nor the one of ~/.netrc."""
    password = "fedcba9876543210fedcba9876543210fedcba98"
    host = server.url.removeprefix("http://")
    rc = Path(os.environ["HOME"]) / ".netrc"
    rc.write_text(f"machine {host} login user password {password}\n")
    rc.chmod(0o600)
    mirror(cell(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY")
    mirror(cell(tmp_path, "01-other"))
    mirror(cell(tmp_path, "02-third"), mode="offline")
    sent = [base64.b64encode(f"api:{key}".encode()).decode() for key in (KEY, password)]
    assert {f"Basic {key}" for key in sent} <= server.keys  # both were used
    secrets = [text.encode() for text in (KEY, password, *sent)]
    written = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(written) > 20
    for path in written:
        assert not any(secret in path.read_bytes() for secret in secrets), path


class TestOffline:
    def test_several_goes_are_one_run(self, tmp_path):
        found = unfinished(tmp_path)
        for number, rows in enumerate((train(0, 1), train(2), train(1, 2, attempt=2))):
            add(found, rows)
            mirror(found.path, "offline", tags=(f"go-{number}",))
        [run] = ask(source="offline", output=tmp_path / "results")
        assert by_key(run) == by_key(local(found.path))
        assert run.config == local(found.path).config
        assert [row["step"] for row in run.history] == [0, 1, 2, 1, 2]
        assert run.tags == ("go-2",)

    def test_kill_9_leaves_no_row_twice(self, tmp_path):
        found = unfinished(tmp_path)
        add(found, train(*range(30)))
        for first in (30, 60):
            files = len(segments(found.path / "mirror"))

            def there() -> bool:
                return len(segments(found.path / "mirror")) > files

            with killed_when(there, found, "offline"):
                add(found, train(*range(first, first + 30)))
            wait_for_the_end_of_its_service(found)
        mirror(found.path, "offline")
        numbers = [
            record["history"]["step"]["num"]
            for file in segments(found.path / "mirror")
            for record in records(file)
            if record["type"] == "history"
        ]
        assert sorted(numbers) == list(range(90))
        [run] = ask(source="offline", output=tmp_path / "results")
        assert [row["step"] for row in run.history] == list(range(90))

    def test_what_is_no_number_is_read_back(self, tmp_path):
        found = unfinished(tmp_path)
        add(found, [{**train(0)[0], "loss": math.nan, "grad_norm": -math.inf}])
        mirror(found.path, "offline")
        [run] = ask(source="offline", output=tmp_path / "results")
        assert math.isnan(run.last("train/loss"))
        assert run.last("train/grad_norm") == -math.inf

    def test_a_damaged_file_is_named(self, tmp_path):
        path = cell(tmp_path)
        mirror(path, "offline")
        [file] = segments(path / "mirror")
        file.write_bytes(b"nothing of W&B's")
        with pytest.raises(PublishedError, match="W&B cannot read it"):
            ask(source="offline", output=tmp_path / "results")
