"""Runs whose speeds are no evidence, because something else used their device.

Read from who ran at the same time on the same host and device, by the attempts of
every run of the study, from the processes that the driver counted on its GPU
(gpu.jsonl), and from what a run was allowed to (CONFIG_RUNS_PER_GPU,
CONFIG_SHARE_BUSY_GPUS): then its neighbours may be of another study or another user.
On a CPU two runs at once always share: whatever their threads, caches, memory and
clocks are one. Two slices of a GPU share its power and clocks, and have one address.
"""

from dataclasses import replace
from typing import Any, Iterable, Mapping, Sequence

from matrix import units
from matrix.results import fairness
from matrix.results.rows import Row
from matrix.results.run import Run

LEAST = 1.0
"""Seconds that two attempts must have in common."""
TIMED = (
    *("tokens_per_s", "average_step_time", "train_time", "eval_time"),
    *("wall_time", "total_time_all_attempts", "time_to_first_step"),
)
"""Of a summary, what a neighbour changes."""


def shared(runs: Sequence[Run], everyone: Iterable[Run]) -> list[str]:
    """One line per way in which some of `runs` shared their device; `everyone` are the
    runs that they may have shared it with.
    """
    lines = fairness.shared_gpus(runs)
    busy = [run for run in runs if run.config.get("SHARE_BUSY_GPUS") is True]
    busy = [run for run in busy if run.value("device_kind") != "cpu"]
    if busy:
        lines.append(
            f"{units.plural(len(busy), 'run')} took GPUs on which others may compute "
            "(CONFIG_SHARE_BUSY_GPUS): speeds, times and energy are no evidence"
        )
    foreign = [run for run in runs if (run.value("gpu_processes") or 0) > 1]
    if foreign:
        lines.append(
            f"{units.plural(len(foreign), 'run')} had another process on the GPU "
            f"({_name(foreign[0])}): speeds, times and energy are no evidence"
        )
    everyone = list(everyone)
    beside = [(run, other) for run in runs for other in _beside(run, everyone)]
    if beside:
        one, other = beside[0]
        count = units.plural(len({run.run_dir for run, _ in beside}), "run")
        lines.append(
            f"{count} shared a device with another run at the same time ({_name(one)} "
            f"beside {_name(other)}): speeds, times and energy are no evidence"
        )
    return lines


def _beside(run: Run, everyone: Iterable[Run]) -> list[Run]:
    """The runs with an attempt at the same time on the same device."""
    return [
        other
        for other in everyone
        if other.run_dir != run.run_dir
        and any(_meet(a, b) for a in run.sessions for b in other.sessions)
    ]


def _meet(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two attempts had a device and more than LEAST seconds in common."""
    if one["host"] is None or one["host"] != other["host"]:
        return False
    common = min(one["end"], other["end"]) - max(one["start"], other["start"])
    return common > LEAST and not one["devices"].isdisjoint(other["devices"])


def _name(run: Run) -> str:
    return f"{run.step} seed {run.seed}"


def without_speeds(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows as if no run had recorded a speed, a time or energy."""
    return tuple(
        replace(row, runs={seed: _untimed(run) for seed, run in row.runs.items()})
        for row in rows
    )


def _untimed(run: Run) -> Run:
    summary = {k: v for k, v in run.documents["summary"].items() if k not in TIMED}
    documents = {**run.documents, "summary": summary, "energy": {}}
    evals = [{k: v for k, v in row.items() if k != "time"} for row in run.evals]
    return replace(run, documents=documents, evals=evals)
