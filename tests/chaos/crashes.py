"""Cells that tests.chaos.crash ends, and what is compared of them afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from records.cell import read_cell
from records.jsonl import read_rows
from tests.conftest import ROOT

CLOCKS = {"time", "seconds", "tokens_per_s", "pid", "wall_time", "train_time"}
CLOCKS |= {"eval_time", "total_time_all_attempts", "average_step_time"}
CLOCKS |= {"time_to_first_step", "peak_memory_bytes", "attempt", "attempts"}
WRITTEN = "rename summary.json"
UNMARKED = {
    "kill": ("interrupted", "interrupted, goes on from the checkpoint of step 6"),
    "full": ("failed", "failed before"),
}


def crashes(data: Path, jobs: list[dict]) -> list[dict]:
    """What tests.chaos.crash says of the jobs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crash", str(data)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return json.loads(done.stdout)


def job(directory: Path, fault: str | None = None, point: int = -1) -> dict:
    return {"directory": str(directory), "fault": fault, "point": point}


def content(directory: Path) -> dict[str, Any]:
    """Every file of a run but its log, without clocks and the name of the cell; a
    copy of torch's by its size and the summary's hash of the weights.
    """
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.suffix == ".jsonl" and "heartbeat" not in name:
            found[name] = [_timeless(row) for row in read_rows(path)]
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        else:
            found[name] = path.stat().st_size if path.suffix == ".pt" else None
    return found


def _timeless(row: dict) -> dict:
    return {
        key: _timeless(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if key not in CLOCKS and key not in ("hash", "number")
    }


def curve(directory: Path) -> Any:
    """The rows that count, without clocks, and what is left in checkpoint/."""
    cell = read_cell(directory)
    rows = [_timeless(row) for row in (*cell.train, *cell.evals)]
    kept = sorted(path.name for path in cell.dir.checkpoint_dir.iterdir())
    return rows, cell.summary["model_sha256"], kept


def is_marked(changes: list[str], fault: str | None, point: int) -> bool:
    """Whether the summary stands after this fault; a folder that is there already is
    not made, so a full disk refuses nothing.
    """
    needless = fault == "full" and changes[point] == "mkdir checkpoint"
    return fault is None or needless or WRITTEN in changes[:point]
