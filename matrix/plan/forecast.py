"""What a plan will need: disk space and time, before anything starts.

Disk: a running cell holds the last two checkpoints and, while it writes one,
a third; each is fp32 weights, what the optimizer keeps of every weight and, with
pruning, masks and scores. A finished cell keeps its final weights, with KEEP_CHECKPOINTS the last two checkpoints as
well. Time: from what the finished cells of the same study took per FLOP on this
host, evaluation included.
"""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from kconf.budget import tokens_per_step
from matrix import units
from matrix.plan.cells import Cell, Plan
from matrix.plan.model_facts import Facts
from matrix.results import whole_run
from records import read
from records.cell import spent_seconds
from records.jsonl import Row
from records.layout import CellDir, RecordError

FLOAT = 4
BESIDES = 2**18
"""Bytes of a checkpoint's names, counters and random number generators, at most."""
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
    """The key of a cell's facts: the network's configuration and all code: what counts
    them is no part of a run."""
    return f"{cell.model}-{cell.rooms}"


def disk(plan: Plan, facts: Mapping[str, Facts]) -> Disk:
    """The disk forecast of the plan's pending cells; `facts` by `facts_key`."""
    peaks, kept = [], 0
    for cell in plan.pending:
        known = facts[facts_key(cell)]
        weights = known["parameters"] * FLOAT
        checkpoint = checkpoint_bytes(cell.values, known)
        peaks.append(max(AT_ONCE * checkpoint - present_bytes(cell), checkpoint))
        kept += weights if cell.values["SAVE_MODEL"] else 0
        if cell.values["KEEP_CHECKPOINTS"]:
            kept += KEPT * checkpoint
    largest = sorted(peaks, reverse=True)[: plan.jobs]
    return Disk(sum(largest), kept, free_bytes(plan.output))


def checkpoint_bytes(values: Mapping[str, Any], known: Facts) -> int:
    """A resume checkpoint, at most: weights, what the optimizer and pruning keep."""
    total = known["parameters"] * FLOAT + BESIDES
    for what in ("optimizer", "pruning"):
        of_kinds = known[f"{what}_bytes"].items()
        (kept,) = (n for kind, n in of_kinds if values[f"{what}_{kind}".upper()])
        total += kept
    return total


def present_bytes(cell: Cell) -> int:
    """What the checkpoints of an interrupted cell take already."""
    files = cell.dir.checkpoint_dir.glob("*")
    return sum(path.lstat().st_size for path in files)


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


@dataclass(frozen=True)
class Measured:
    """A finished cell: what it is measured by, its seconds, FLOPs (all tokens) and
    directory. threads: of each of its ranks."""

    step: str
    device: str
    threads: int | None
    ranks: int
    seconds: float
    flops: float
    path: Path

    def as_fast_as(self, cell: Cell) -> bool:
        """Whether a cell takes as long per FLOP: the same kind of device, as many of
        them, as many threads.
        """
        asked = (cell.device, cell.threads, cell.values["GPUS_PER_RUN"])
        return (self.device, self.threads, self.ranks) == asked


def duration(plan: Plan, facts: Mapping[str, Facts]) -> Duration:
    """The time forecast of the plan's pending cells; `facts` by `facts_key`.

    A cell takes as long per FLOP as the finished cells of its own step, else of
    any step, on as many of the same kind of device with as many threads.
    """
    pending = [cell for cell in plan.pending if cell.state != "running"]
    if not pending:
        return Duration(0.0, "nothing to start")
    records, damaged = finished_here(plan.study_dir)
    note = f"; {units.plural(damaged, 'damaged run')} left out" if damaged else ""
    total, used = 0.0, set()
    for cell in pending:
        alike = [record for record in records if record.as_fast_as(cell)]
        alike = [r for r in alike if r.step == cell.step] or alike
        flops = sum(record.flops for record in alike)
        if not flops:
            why = "no cell of this study has finished on this host and device"
            return Duration(None, why + note)
        tokens = tokens_per_step(cell.values) * cell.values["GPT2_MAX_ITERS"]
        per_token = facts[facts_key(cell)]["flops_per_token"]
        seconds = tokens * per_token * sum(r.seconds for r in alike) / flops
        if cell.values["BUDGET_TIME"]:
            seconds = min(seconds, cell.values["GPT2_MAX_TIME"])
        total += seconds
        used.update(map(id, alike))
    jobs = min(plan.jobs, len(pending))
    cells = units.plural(len(used), "finished cell")
    return Duration(total / jobs, f"from {cells} on this host{note}")


def finished_here(study_dir: Path) -> tuple[list[Measured], int]:
    """A study's finished cells that ran on this host alone; how many are damaged."""
    found, damaged = [], 0
    for path in sorted(study_dir.glob("*/seed-*/*/summary.json")):
        own = CellDir(path.parent)
        try:
            attempts = whole_run.read(own).cell.attempts
            measured = _measured(own, attempts)
        except RecordError:  # the plan or the report says what is wrong with it
            damaged += 1
            continue
        hosts = {row.get("host") for row in attempts if row["event"] == "start"}
        if hosts == {socket.gethostname()}:
            found.append(measured)
    return found, damaged


def _measured(cell: CellDir, attempts: Sequence[Row]) -> Measured:
    """Time between starts and ends of attempts, and FLOPs of all tokens."""
    summary = read.summary(cell.summary)
    try:
        return Measured(
            cell.path.parts[-3],
            summary["device"]["kind"],
            summary["threads"],
            summary["facts"]["ranks"],
            spent_seconds(attempts),
            float(summary["tokens"] * summary["facts"]["flops_per_token"]),
            cell.path,
        )
    except (KeyError, TypeError) as error:  # a record of older code has not all
        raise RecordError(cell.summary, f"is incomplete: {error!r}") from None
