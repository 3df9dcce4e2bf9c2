"""Reading the files that W&B writes offline, with W&B's own `leet inspect`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

from matrix.trackers.target import TrackerError, require_extra
from records.entry import UTF8

Record = dict[str, Any]


def segments(directory: Path, run_id: str = "*") -> list[Path]:
    """The .wandb files of the runs kept below `directory`, the oldest first.

    A run that was mirrored in several goes has one per go.
    """
    return sorted(directory.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))


def records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: {"num", "type", TYPE: …}. Raises TrackerError."""
    require_extra("wandb")
    wandb = [sys.executable, "-P", "-m", "wandb"]  # not a wandb/ that lies here
    command = [*wandb, "leet", "inspect", "--json", str(path)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env={**os.environ, **UTF8}
    )
    if done.returncode:
        raise TrackerError(f"{path}: W&B cannot read it: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        yield json.loads(line)


def row_count(directory: Path, run_id: str) -> int:
    """Rows of a run that its offline files hold."""
    numbers = [
        record["history"]["step"]["num"]
        for path in segments(directory, run_id)
        for record in records(path)
        if record["type"] == "history"
    ]
    return 1 + max(numbers, default=-1)
