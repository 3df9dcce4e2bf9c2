"""A kill or a full disk at every change that a run makes around its summary."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import run_settings
from kconf import config_py
from matrix.plan.settle import settle
from matrix.results.study import load
from matrix.results.whole_run import identity_hash
from records import atomic
from records.cell import read_status
from records.jsonl import open_append, read_rows
from records.layout import CellDir
from records.lease import Lease
from tests.chaos.crashes import UNMARKED, WRITTEN, content, crashes, curve
from tests.chaos.crashes import is_marked, job
from tests.conftest import SMALL

SHORT = {"GPT2_MAX_ITERS": "6", "CHECKPOINT_INTERVAL": "2", "GPT2_EVAL_INTERVAL": "3"}
NONE = "0" * 64


@pytest.fixture(scope="module")
def study(tmp_path_factory, resolve, tree) -> Iterator[SimpleNamespace]:
    """study.cell(name): a run directory; study.data, study.calm."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "text.txt").write_text("the cat saw a dog and one black bird.\n" * 300)
    local = {"DATASET_LOCAL": "y", "LOCAL_PATH": str(folder / "text.txt")}
    local |= {"VAL_SPLIT_TAIL": "y", "VAL_FRACTION": "0.1"}
    data = folder / "packed"
    prepare(run_settings(resolve(**local)).data, data, say=lambda line: None)

    def cell(number: int, **symbols: str) -> Path:
        values = resolve(SMALL, local, SHORT, **symbols)
        packed = json.loads((data / "dataset.json").read_text())
        config = config_py.identity(values, tree.operational)
        identity = {"config": config, "code": NONE, "dataset": packed["sha256"]}
        identity |= {"number": number}
        run = {"study": "study", "step": "00-base", "seed": 1, "control": True}
        run |= {"hash": identity_hash(identity), "identity": identity}
        directory = folder / "study" / "00-base" / "seed-1" / run["hash"][:8]
        directory.mkdir(parents=True)
        config_py.write(directory / "config.py", values, tree.operational)
        record = {"schema": 1, "cell": run, "data_dir": str(data)}
        record["provenance"] = {"time": 0.0}
        atomic.write_json(directory / "run.json", record)
        return directory

    calm = cell(0)
    (done,) = crashes(data, [job(calm)])
    assert done["status"] == 0
    yield SimpleNamespace(
        cell=cell, data=data, calm=calm, root=folder / "study", changes=done["changes"]
    )


def hash_of(directory: Path) -> str:
    """The hash of the cell in a directory."""
    return json.loads((directory / "run.json").read_text())["cell"]["hash"]


def settled(directory: Path) -> bool:
    """Whether the cell is done, and nothing is left to do."""
    status = read_status(CellDir(directory), hash_of(directory))
    return status.state == "done" and not status.left and not status.failure


def finish(directory: Path) -> list[str]:
    """What the next `make` says when it settles this cell."""
    said: list[str] = []
    cell = SimpleNamespace(state="done", reused=False, dir=CellDir(directory))
    cell.name, cell.hash = directory.name, hash_of(directory)
    settle(SimpleNamespace(cells=[cell]), said.append)
    return said


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_whatever_ends_a_run_around_its_summary(study, fault):
    """Before the summary the run goes on from its checkpoint; behind it the plan says
    what is left, `make` does that, and the directory is the undisturbed one.
    """
    names = study.changes
    assert WRITTEN in names and sum("remove checkpoint" in name for name in names) == 2
    assert "write attempts.jsonl" in names and "remove heartbeat" in names
    where = range(len(names))
    base = {"kill": 0x100, "full": 0x200}[fault]
    cells = [study.cell(base + point) for point in where]
    ended = crashes(
        study.data, [job(c, fault, p) for c, p in zip(cells, where, strict=True)]
    )
    again = []
    for directory, point, end in zip(cells, where, ended, strict=True):
        assert end["changes"][: point + 1] == study.changes[: point + 1]
        what, status = study.changes[point], read_status(
            CellDir(directory), hash_of(directory)
        )
        marked = is_marked(study.changes, fault, point)
        assert (status.state == "done") == marked, what
        if fault == "full" and marked:
            assert end["status"] == 0 or what == "remove heartbeat", what
        if not marked:
            found = (status.state, status.reason.partition(":")[0])
            assert found == UNMARKED[fault], what
            again.append(directory)
            continue
        before = {run.run_dir: run.state for run in load(study.root).runs}
        assert before[directory.relative_to(study.root).as_posix()] == "done", what
        said = finish(directory)
        assert bool(said) == bool(status.left), (what, said)
        assert settled(directory), what
        assert content(directory) == content(study.calm), what
        assert finish(directory) == []
    assert again, "no point before the summary"
    for end in crashes(study.data, [job(directory) for directory in again]):
        assert end["status"] == 0
    for directory in again:
        assert settled(directory)
        assert curve(directory) == curve(study.calm)


def test_the_first_kill_leaves_everything(study):
    """Right behind the summary: no end, all checkpoints, a heartbeat."""
    directory = study.cell(0x300)
    point = study.changes.index(WRITTEN) + 1
    crashes(study.data, [job(directory, "kill", point)])
    status = read_status(CellDir(directory), hash_of(directory))
    assert (status.reason, status.left) == (
        "done, 6 steps",
        (
            "record the end of its last attempt",
            "drop 2 checkpoints",
            "remove the heartbeat of a dead process",
        ),
    )
    summary = json.loads((directory / "summary.json").read_text())
    finish(directory)
    assert len(read_rows(directory / "attempts.jsonl")) == 2
    start, end = read_rows(directory / "attempts.jsonl")
    assert end["seconds"] == summary["wall_time"]
    assert end["time"] == start["time"] + summary["wall_time"]


def test_a_failure_beside_a_summary_is_overruled(study):
    """As older versions left it: the clean-up failed, and so did the attempt."""
    directory = study.cell(0x301)
    point = study.changes.index(WRITTEN) + 1
    crashes(study.data, [job(directory, "kill", point)])
    with open_append(directory / "attempts.jsonl") as rows:
        failed = {"event": "end", "attempt": 1, "status": "failed", "error": "no"}
        rows.append({**failed, "step": 6, "time": 1.0, "seconds": 2.5})
    record = {"attempt": 1, "status": "failed", "error": "OSError: no"}
    atomic.write_json(directory / "failure.json", record)
    torn = directory / ".summary.json.0123abcd.tmp"
    torn.write_text("{")
    with open(directory / "attempts.jsonl", "a") as file:
        file.write('{"event": "en')
    status = read_status(CellDir(directory), hash_of(directory))
    assert status.state == "done"
    assert "remove a failure.json that it overrules" in status.left
    assert "remove 1 half-written file" in status.left
    (said,) = finish(directory)
    assert said.startswith(f"{directory.name}: settled: record the end of")
    assert not (directory / "failure.json").exists() and not torn.exists()
    lines = (directory / "attempts.jsonl").read_text().splitlines()
    assert [line[-1] for line in lines] == ["}"] * 3
    ends = read_rows(directory / "attempts.jsonl")[1:]
    assert [row["status"] for row in ends] == ["failed", "done"]
    assert [row["seconds"] for row in ends] == [2.5, 0.0]
    assert settled(directory)


def test_checkpoints_that_were_asked_for_stay(study):
    directory = study.cell(0x302, KEEP_CHECKPOINTS="y")
    point = study.changes.index(WRITTEN) + 1
    crashes(study.data, [job(directory, "kill", point)])
    finish(directory)
    names = sorted(path.name for path in (directory / "checkpoint").iterdir())
    assert names == ["model.pt", "step-000000004.pt", "step-000000006.pt"]


def test_a_cell_whose_process_lives_is_left_to_it(study):
    directory = study.cell(0x303)
    point = study.changes.index(WRITTEN) + 1
    crashes(study.data, [job(directory, "kill", point)])
    with Lease(directory / "lease").acquire():
        assert not read_status(CellDir(directory), hash_of(directory)).left
        assert finish(directory) == []
    assert finish(directory)


def test_a_disk_that_is_still_full_is_said(study, monkeypatch):
    directory = study.cell(0x304)
    point = study.changes.index(WRITTEN) + 1
    crashes(study.data, [job(directory, "kill", point)])

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "sync_directory", full)
    (said,) = finish(directory)
    assert "done, not settled: " in said and "No space left" in said
    assert len(list((directory / "checkpoint").glob("step-*.pt"))) == 2
