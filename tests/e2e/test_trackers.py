"""A study with trackers, by the real `make`: nothing changes but what is mirrored."""

import json
import os
import subprocess
import sys

import pytest

from matrix.published.sources import local
from matrix.trackers.session import CURRENT, FAILED, state
from records import jsonl
from tests.e2e.conftest import processes

pytestmark = pytest.mark.slow
WANDB = pytest.importorskip("wandb", reason="the extra requirements-wandb.txt")
TRACKIO = pytest.importorskip("trackio", reason="the extra requirements-trackio.txt")
KEY = "0123456789abcdef0123456789abcdef01234567"
COMPILED = "# Help: compiled\nCONFIG_GPT2_COMPILE=y\n"
OFFLINE = {"CONFIG_WANDB_MODE": "offline"}


@pytest.fixture(autouse=True)
def account(tmp_path_factory, monkeypatch):
    """No account but the one a test makes; trackio's database in a place of its own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TRACKIO_DIR", str(home / "trackio"))


def paths(checkout):
    return sorted((checkout.root / "results").glob("*/*/seed-*/????????"))


def answer(checkout, name: str, source: str, *options: str) -> dict:
    """A script's JSON."""
    command = [sys.executable, f"scripts/{name}", "--source", source, "--json"]
    command += ["--study", "toy", *options]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_every_script_reads_an_offline_study_back(checkout, curve):
    checkout.toy({"00-control": "# Help: the base\n", "01-compiled": COMPILED})
    assert checkout.make("data").status == 0
    done = checkout.make(TRACKER="wandb,trackio", **OFFLINE)
    assert done.status == 0, done.output
    for path in paths(checkout):
        for tracker in ("wandb", "trackio"):
            assert state(path, tracker)["state"] == CURRENT
    bare = checkout.make(OUTPUT="bare", STEPS="0")
    assert bare.status == 0, bare.output
    [without] = checkout.cells("bare").values()
    assert curve(without) == curve(checkout.cells()["00-control/seed-1"])

    for path in paths(checkout):  # as a sampler leaves them, on a machine with a GPU
        (path / "mirror" / "wandb.json").unlink()
        (path / "mirror" / "wandb.order").unlink()
        for file in (path / "mirror" / "wandb").rglob("*.wandb"):
            file.unlink()
        with jsonl.open_append(path / "gpu.jsonl") as file:
            for step in (0, 10):
                row = {"attempt": 1, "time": 1e9 + step, "step": step}
                loads = {"gpu/compute_util_avg": 33.25, "gpu/0/power_w": 300.5 + step}
                file.append(row | loads)
    assert checkout.make("sync", TRACKER="wandb", **OFFLINE).status == 0
    scripts = {
        "inspect_wandb_keys.py": (),
        "query_wandb_gpu.py": (),
        "query_wandb_gpu_full.py": (),
        "compare_wandb_runs.py": (),
        "verify_wandb_publication.py": (),
        "plot_torch_compile_impact.py": ("--out", "pictures"),
    }
    for name, options in scripts.items():
        offline = answer(checkout, name, "offline", *options)
        ours = answer(checkout, name, "local", *options)
        assert offline == ours and offline["rows"], name
    assert len(list((checkout.root / "pictures").glob("*.png"))) == 4
    found = {
        row["key"]
        for row in answer(checkout, "inspect_wandb_keys.py", "offline")["rows"]
    }
    assert {"train/loss", "eval/loss", "final/loss", "gpu/0/power_w"} <= found


def held_by_trackio() -> dict[str, list[dict]]:
    """{run name: rows} of the database."""
    program = "import json; from trackio.sqlite_storage import SQLiteStorage as S\n"
    program += "names = [run['name'] for run in S.get_run_records('kablate')]\n"
    program += "print(json.dumps({n: S.get_logs('kablate', n) for n in names}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    added = ("timestamp", "log_id")
    return {
        name: [{k: v for k, v in row.items() if k not in added} for row in rows]
        for name, rows in json.loads(done.stdout.splitlines()[-1]).items()
    }


def test_trackio_holds_the_rows(checkout):
    checkout.toy({"00-control": "# Help: the base\n"})
    assert checkout.make("data").status == 0
    assert checkout.make(TRACKER="trackio").status == 0
    assert checkout.make("sync", TRACKER="trackio").status == 0
    [path] = paths(checkout)
    assert held_by_trackio() == {local(path).name: list(local(path).history)}


def test_kill_9_of_the_runner_and_of_the_run(checkout, kill_9, wait_until):
    """The mirror ends by itself; the next `make` goes on, rows and all."""
    checkout.toy({"00-control": "# Help: the base\n"}, GPT2_MAX_ITERS="1500")
    assert checkout.make("data").status == 0
    make = checkout.start(TRACKER="trackio")
    wait_until(lambda: any(mirrored(path) > 5 for path in paths(checkout)), 300)
    [path] = paths(checkout)
    runner = checkout.runner(make)
    [beside] = [
        pid
        for pid, (parent, argv) in processes().items()
        if parent == runner and "matrix.trackers.mirror" in argv
    ]
    assert kill_9(runner)
    [trainer] = checkout.trainers()
    assert kill_9(trainer)
    wait_until(lambda: beside not in processes(), 60)
    first = held_by_trackio()[local(path).name]
    assert 0 < len(first) < 1500
    done = checkout.make(TRACKER="trackio")
    assert done.status == 0, done.output
    there = local(path)
    assert {row["attempt"] for row in there.history} == {1, 2}
    assert held_by_trackio() == {there.name: list(there.history)}


def mirrored(path) -> int:
    """Rows that the mirror of a cell has taken."""
    order = path / "mirror" / "trackio.order"
    return len(order.read_text()) if order.exists() else 0


def test_a_tracker_without_a_server_is_said_once(checkout, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # discard: closed
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    checkout.toy()
    assert checkout.make("data").status == 0
    done = checkout.make(TRACKER="wandb", CONFIG_TRACKER_WAIT="3")
    assert done.status == 0, done.output
    said = [line for line in done.output.splitlines() if line.startswith("wandb: ")]
    assert len(said) == 1 and "the runs go on, `make sync` uploads" in said[0]
    for path in paths(checkout):
        assert state(path, "wandb")["state"] == FAILED
    assert all(cell.state == "done" for cell in checkout.cells().values())
    results = checkout.root / "results"
    written = [path for path in results.rglob("*") if path.is_file()]
    assert written and not [
        path for path in written if KEY.encode() in path.read_bytes()
    ]
    assert KEY not in done.output
