"""What a plan will need: disk space and time, before anything starts.

Disk: a running cell holds the last two checkpoints and, while it writes one,
a third; each is fp32 weights and two moments. A finished cell keeps its final
weights, with KEEP_CHECKPOINTS the last two checkpoints as well. Time: from what
the finished cells of the same study took on this host, evaluation included.
"""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping

from matrix import units
from matrix.facts import Facts
from matrix.plan import Cell, Plan
from records.cell import CellRecord, read_cell

FLOAT = 4
PER_CHECKPOINT = 3
"""Copies of the parameters in a checkpoint: weights and AdamW's two moments."""
KEPT, AT_ONCE = 2, 3
"""Checkpoints a cell keeps, and holds while it writes the next."""


class DiskError(Exception):
    """The study does not fit on the disk; the message holds the numbers."""


@dataclass(frozen=True)
class Disk:
    """Bytes: for cells that run at once, for finished ones, free where they land."""

    running: int
    kept: int
    free: int

    @property
    def needed(self) -> int:
        """At most, at the end of the study."""
        return self.running + self.kept

    def require(self) -> None:
        """Raise DiskError when the disk cannot hold it."""
        if self.needed > self.free:
            raise DiskError(
                f"the study needs up to {units.memory(self.needed)} on disk "
                f"({units.memory(self.running)} while cells run, {units.memory(self.kept)} kept) and "
                f"{units.memory(self.free)} are free: free some, lower CONFIG_JOBS, set "
                "CONFIG_SAVE_MODEL=n or CONFIG_KEEP_CHECKPOINTS=n, or choose another "
                "OUTPUT="
            )


def facts_key(cell: Cell) -> str:
    """The key of a cell's facts: configuration and code."""
    return f"{cell.identity['config']}-{cell.identity['code']}"


def disk(plan: Plan, facts: Mapping[str, Facts]) -> Disk:
    """The disk forecast of the plan's pending cells; `facts` by `facts_key`."""
    peaks, kept = [], 0
    for cell in plan.pending:
        weights = facts[facts_key(cell)]["parameters"] * FLOAT
        checkpoint = weights * PER_CHECKPOINT
        peaks.append(max(AT_ONCE * checkpoint - present_bytes(cell), checkpoint))
        kept += weights if cell.values["SAVE_MODEL"] else 0
        if cell.values["KEEP_CHECKPOINTS"]:
            kept += KEPT * checkpoint
    largest = sorted(peaks, reverse=True)[: plan.jobs]
    return Disk(sum(largest), kept, free_bytes(plan.output))


def present_bytes(cell: Cell) -> int:
    """What the checkpoints of an interrupted cell take already."""
    files = cell.dir.checkpoint_dir.glob("*")
    return sum(path.stat().st_size for path in files)


def free_bytes(path: Path) -> int:
    """Free bytes on the file system that holds `path`, which need not exist."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@dataclass(frozen=True)
class Duration:
    """Seconds until the study ends, None when nothing is known; and from what."""

    seconds: float | None
    basis: str


def duration(plan: Plan) -> Duration:
    """The time forecast of the plan's pending cells."""
    pending = [cell for cell in plan.pending if cell.state != "running"]
    if not pending:
        return Duration(0.0, "nothing to start")
    records = _finished_here(plan)
    measured = {
        step: _seconds_per_token([r for s, r in records if s == step])
        for step in {step for step, _ in records}
    }
    overall = _seconds_per_token([record for _, record in records])
    if overall is None:
        return Duration(None, "no cell of this study has finished on this host")
    total = 0.0
    for cell in pending:
        tokens = tokens_per_step(cell) * cell.values["GPT2_MAX_ITERS"]
        seconds = tokens * (measured.get(cell.step) or overall)
        if cell.values["BUDGET_TIME"]:
            seconds = min(seconds, cell.values["GPT2_MAX_TIME"])
        total += seconds
    jobs = min(plan.jobs, len(pending))
    count = len(records)
    return Duration(
        total / jobs, f"from {count} finished cell{'s' * (count > 1)} on this host"
    )


def tokens_per_step(cell: Cell) -> int:
    """Tokens of one optimizer step, as configured (one rank)."""
    values = cell.values
    product = values["BATCH_SIZE"] * max(1, values["GPT2_GRADIENT_ACCUMULATION"])
    return (values["EFFECTIVE_BATCH"] or product) * values["GPT2_BLOCK_SIZE"]


def _finished_here(plan: Plan) -> list[tuple[str, CellRecord]]:
    """(step, record) of the study's finished cells that ran on this host alone."""
    found = []
    for path in sorted(plan.study_dir.glob("*/seed-*/*/summary.json")):
        record = read_cell(path.parent)
        starts = [row for row in record.attempts if row["event"] == "start"]
        if {row["host"] for row in starts} == {socket.gethostname()}:
            found.append((path.parts[-4], record))
    return found


def _seconds_per_token(records: Iterable[CellRecord]) -> float | None:
    """Time between starts and ends of attempts over tokens; None without any."""
    seconds = tokens = 0.0
    for record in records:
        starts = {r["attempt"]: r for r in record.attempts if r["event"] == "start"}
        for row in record.attempts:
            if row["event"] == "end" and row["attempt"] in starts:
                seconds += row["time"] - starts[row["attempt"]]["time"]
        tokens += record.summary["tokens"]
    return seconds / tokens if tokens and seconds else None
