"""The state of a cell follows from its files."""

import json
import time
import zipfile
from pathlib import Path

import pytest

from records import atomic
from records.cell import read_cell, read_status
from records.jsonl import open_append
from records.layout import CellDir, RecordError, cell_path, read_record
from records.lease import Lease

HASH = "ab" * 32
ANEW = "interrupted, begins anew: no checkpoint"


@pytest.fixture
def cell(tmp_path: Path) -> CellDir:
    path = cell_path(tmp_path, "study+tiny", "00-base", 3, HASH[:8])
    assert path.relative_to(tmp_path).as_posix() == "study+tiny/00-base/seed-3/abababab"
    path.mkdir(parents=True)
    return CellDir(path)


def start(cell: CellDir, attempt: int) -> None:
    with open_append(cell.attempts) as rows:
        rows.append({"event": "start", "attempt": attempt, "time": time.time()})


def end(cell: CellDir, attempt: int, status: str, step: int) -> None:
    error = "RuntimeError: no" if status in ("failed", "diverged") else None
    with open_append(cell.attempts) as rows:
        rows.append(
            {"event": "end", "attempt": attempt, "status": status, "step": step}
            | {"error": error, "time": time.time()}
        )


def train(cell: CellDir, attempt: int, *steps: int) -> None:
    with open_append(cell.metrics) as rows:
        for step in steps:
            row = {"attempt": attempt, "step": step, "loss": 4.0}
            rows.append({"kind": "train", **row})
            rows.append({"kind": "eval", **row, "tokens": 8 * step})


def finish(cell: CellDir, step: int) -> None:
    atomic.write_json(cell.summary, {"schema": 1, "hash": HASH, "step": step})


def state(cell: CellDir) -> tuple[str, str]:
    status = read_status(cell, HASH)
    return status.state, status.reason


def test_states_in_the_order_of_a_life(cell: CellDir):
    assert state(cell) == ("new", "never ran")
    with Lease(cell.lease).acquire():
        start(cell, 1)
        assert state(cell)[0] == "running" and "running in" in state(cell)[1]
    train(cell, 1, 0, 1)
    assert state(cell) == ("interrupted", ANEW)
    start(cell, 2)
    end(cell, 2, "stopped", 7)
    assert state(cell) == ("interrupted", ANEW)
    start(cell, 3)
    end(cell, 3, "diverged", 8)
    assert state(cell) == ("diverged", "diverged: RuntimeError: no")
    start(cell, 4)
    assert state(cell)[0] == "interrupted"
    finish(cell, 9)
    assert state(cell) == ("done", "done, 9 steps")


def test_failure_json_counts_for_its_attempt_only(cell: CellDir):
    start(cell, 1)
    atomic.write_json(cell.failure, {"attempt": 1, "error": "killed by SIGKILL"})
    assert state(cell) == ("failed", "failed before: killed by SIGKILL")
    start(cell, 2)
    assert state(cell) == ("interrupted", ANEW)


def save(cell: CellDir, step: int) -> Path:
    """A checkpoint as torch's archive: its checksums are what counts here."""
    cell.checkpoint_dir.mkdir(exist_ok=True)
    path = cell.checkpoint_dir / f"step-{step:09d}.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"weights" * 99)
    return path


def test_an_interruption_names_the_checkpoint_that_is_used(cell: CellDir):
    """Not the last row, and not a checkpoint that is damaged."""
    start(cell, 1)
    train(cell, 1, 0, 1, 2, 11)
    older, newer = save(cell, 5), save(cell, 10)
    (cell.checkpoint_dir / ".step-000000015.pt.0a.tmp").write_bytes(b"half")
    goes_on = "interrupted, goes on from the checkpoint of step"
    assert state(cell) == ("interrupted", f"{goes_on} 10")
    end(cell, 1, "stopped", 12)
    assert state(cell) == ("interrupted", f"{goes_on} 10")
    flipped = bytearray(newer.read_bytes())
    flipped[60] ^= 1
    newer.write_bytes(flipped)
    assert state(cell) == ("interrupted", f"{goes_on} 5")
    older.write_bytes(older.read_bytes()[:50])
    assert state(cell) == ("interrupted", f"{ANEW} is intact")
    save(cell, 15)
    assert state(cell) == ("interrupted", f"{goes_on} 15")


def test_a_failure_before_the_first_attempt(cell: CellDir):
    atomic.write_json(cell.failure, {"attempt": 0, "error": "exit status 1"})
    assert state(cell) == ("failed", "failed before: exit status 1")


def test_another_cells_summary_is_an_error(cell: CellDir):
    atomic.write_json(cell.summary, {"schema": 1, "hash": "cd" * 32, "step": 1})
    with pytest.raises(RecordError, match="belongs to the cell cdcd"):
        read_status(cell, HASH)


def test_rows_beyond_the_end_of_a_finished_cell_are_left_out(cell: CellDir):
    train(cell, 1, 0, 1, 2, 3, 4)
    train(cell, 2, 2, 3)
    assert read_cell(cell.path).step == 5
    finish(cell, 3)
    record = read_cell(cell.path)
    assert [row["step"] for row in record.train] == [0, 1, 2]
    assert [row["step"] for row in record.evals] == [0, 1, 2, 3]
    assert record.evals[2]["attempt"] == 2 and record.step == 3


@pytest.mark.parametrize(
    "text, why",
    [
        ('{"schema": 2}', "has schema 2, this code reads up to 1: .* newer version"),
        ('{"schema": true}', "no schema version"),
        ("{}", "no schema version"),
        ("[1]", "is not a JSON object"),
        ('{"sch', "is not JSON"),
    ],
)
def test_a_record_of_another_kind_is_refused(tmp_path: Path, text: str, why: str):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=f"run.json: .*{why}"):
        read_record(path)


def test_read_cell_of_a_newer_schema(cell: CellDir):
    cell.run_json.write_text(json.dumps({"schema": 99}))
    with pytest.raises(RecordError, match="schema 99"):
        read_cell(cell.path)


@pytest.mark.parametrize(
    "name, text, why",
    [
        ("summary.json", "", "is not JSON"),
        ("summary.json", '{"schema": 2}', "schema 2"),
        ("summary.json", '{"schema": 1}', "hash is absent"),
        ("summary.json", '{"schema": 1, "hash": "a"}', "hash is 'a', expected 64"),
        ("failure.json", '{"attempt": 1}', "error is absent"),
        ("attempts.jsonl", '{"event": "end"}\n', "line 1: attempt is absent"),
        ("attempts.jsonl", "x\nx\n", "line 1 is malformed"),
    ],
)
def test_a_damaged_file_says_what_to_move(cell: CellDir, name, text, why):
    (cell.path / name).write_text(text)
    for read in (lambda: read_status(cell), lambda: read_cell(cell.path)):
        with pytest.raises(RecordError, match=f"{name}: .*{why}.*move .*abab.* away"):
            read()
