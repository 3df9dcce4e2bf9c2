"""The run directory: where each file of a cell lies, and its schema version.

    OUTPUT/STUDY/STEP/seed-K/HASH8/
        .config config.py run.json metrics.jsonl train.log attempts.jsonl
        lease heartbeat heartbeat_rank0.jsonl stacks.txt gpu.jsonl checkpoint/
        diverged/ last_evaluation.bin summary.json failure.json evaluations.jsonl
        job.sh slurm.json (cells that are jobs of Slurm)

docs/records.md describes each file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.files import RecordError, read_bytes
from records.kinds import Kind, Unfit, abbreviated, sound

SCHEMA = 1
"""Version of run.json and summary.json, and with them of the whole directory."""


@dataclass(frozen=True)
class CellDir:
    """The paths of one cell's files; nothing need exist."""

    path: Path

    @property
    def dotconfig(self) -> Path:
        """The cell's full configuration in Kconfig's format."""
        return self.path / ".config"

    @property
    def config_py(self) -> Path:
        """The same as typed literals; what the training process reads."""
        return self.path / "config.py"

    @property
    def run_json(self) -> Path:
        """Identity and provenance, written before the launch."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """Facts, losses and evaluations, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def train_log(self) -> Path:
        """Standard output and error of every attempt."""
        return self.path / "train.log"

    @property
    def attempts(self) -> Path:
        """Start and end of every attempt, append-only."""
        return self.path / "attempts.jsonl"

    @property
    def checkpoint_dir(self) -> Path:
        """Resume checkpoints and the final weights."""
        return self.path / "checkpoint"

    @property
    def last_evaluation(self) -> Path:
        """The losses of the last evaluation by document or window; before the summary."""
        return self.path / "last_evaluation.bin"

    @property
    def summary(self) -> Path:
        """Written last: the completion mark."""
        return self.path / "summary.json"

    @property
    def evaluations(self) -> Path:
        """What the finished run was asked, append-only."""
        return self.path / "evaluations.jsonl"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed; removed when the next one starts."""
        return self.path / "failure.json"

    @property
    def job_script(self) -> Path:
        """What Slurm runs, where cells are jobs."""
        return self.path / "job.sh"

    @property
    def slurm(self) -> Path:
        """The id of the cell's latest job of Slurm."""
        return self.path / "slurm.json"

    @property
    def lease(self) -> Path:
        """Locked by the training process while it lives."""
        return self.path / "lease"

    @property
    def heartbeat(self) -> Path:
        """Time and step of the training process, for other hosts."""
        return self.path / "heartbeat"

    def progress(self, rank: int = 0) -> Path:
        """What a rank's training loop last got done, for the watchdog."""
        return self.path / f"heartbeat_rank{rank}.jsonl"

    @property
    def stacks(self) -> Path:
        """The stacks of all threads, added whenever SIGUSR1 came."""
        return self.path / "stacks.txt"

    @property
    def gpu(self) -> Path:
        """Samples of the GPUs' utilisation, memory and power, append-only."""
        return self.path / "gpu.jsonl"

    @property
    def diverged(self) -> Path:
        """What a run that diverged leaves: batch, generators, checkpoint."""
        return self.path / "diverged"


def cell_path(
    output: Path | str, study_label: str, step_id: str, seed: int, hash8: str
) -> Path:
    """OUTPUT/STUDY/STEP/seed-K/HASH8."""
    return Path(output) / study_label / step_id / f"seed-{seed}" / hash8


def parsed(data: bytes) -> Any:
    """The value that a piece of JSON holds; raises ValueError."""
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path | str, kind: Kind = sound) -> dict[str, Any]:
    """A JSON object of that kind; raises FileNotFoundError or RecordError, which
    names the field that is not.
    """
    return _of_kind(path, _object(path), kind)


def read_record(path: Path | str, kind: Kind = sound) -> dict[str, Any]:
    """A JSON record of a schema this code knows, and of that kind.

    Raises FileNotFoundError, and RecordError for a file that is not a JSON
    object, has no schema version, a newer one than SCHEMA, or a field that is not
    what its kind says.
    """
    record = _object(path)
    schema = record.get("schema")
    if type(schema) is not int or schema < 1:
        raise RecordError(path, f"has no schema version (schema={abbreviated(schema)})")
    if schema > SCHEMA:
        raise RecordError(
            path,
            f"has schema {abbreviated(schema)}, this code reads up to {SCHEMA}: it was written "
            "by a newer version; update this checkout",
        )
    return _of_kind(path, record, kind)


def _object(path: Path | str) -> dict[str, Any]:
    """The object that a file holds, whatever is in it."""
    try:
        record = parsed(read_bytes(path))
    except RecordError:
        raise
    except ValueError as error:  # bad UTF-8 or bad JSON
        raise RecordError(path, f"is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise RecordError(path, "is not a JSON object")
    return record


def _of_kind(path: Path | str, record: dict[str, Any], kind: Kind) -> dict[str, Any]:
    try:
        kind(record)
    except Unfit as unfit:
        raise RecordError(path, str(unfit)) from None
    return record
