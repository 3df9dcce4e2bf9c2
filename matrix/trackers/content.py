"""What a tracker is told about a cell: a name, a configuration, rows of numbers.

Everything is computed from the files of the run directory, so that a mirror beside
the run, `make sync` a week later and the scripts that compare the two say the same.
docs/tracker.md lists the names.
"""

import hashlib
import math
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from matrix.results import whole_run
from records.cell import CellRecord, read_cell

Numbers = dict[str, Any]
NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{0,99})?([eE][-+]?[0-9]{1,3})?")
COUNTERS = ("kind", "attempt", "step")
NOT_FINAL = ("schema", "attempts", "hash", "threads", "torch", "python", "time")


@dataclass(frozen=True)
class Description:
    """One run of a tracker: the cell's identity and its resolved configuration.

    `id` is the same for every attempt of the cell and for every mirror of it; a cell
    that was run anew (`make rerun`) is another run. `pid` is the training process of
    the last attempt, None where it ran on another host.
    """

    id: str
    name: str
    group: str
    job_type: str
    config: Mapping[str, Any]
    pid: int | None


def describe(path: Path) -> Description | None:
    """The description of the cell at `path`; None before its model was built.

    Raises RecordError for files that cannot be read.
    """
    record = read_cell(path)
    starts = [row for row in record.attempts if row["event"] == "start"]
    if record.run is None or record.facts is None or not starts:
        return None
    run = whole_run.run_of(record.dir)
    cell, here = run["cell"], starts[-1].get("host") == socket.gethostname()
    identity = (cell["study"], cell["step"], cell["seed"], cell["hash"])
    key = "/".join(map(str, (*identity, starts[0]["time"])))
    return Description(
        id=hashlib.sha256(key.encode()).hexdigest()[:16],
        name=run_name(cell),
        group=cell["study"],
        job_type=cell["step"],
        config=configuration(record, run),
        pid=starts[-1].get("pid") if here else None,
    )


def run_name(cell: Mapping[str, Any]) -> str:
    """STEP-sK-HASH8: unique in a study, and it starts with what a person knows."""
    return f"{cell['step']}-s{cell['seed']}-{cell['hash'][:8]}"


def configuration(record: CellRecord, run: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration, flat: the names people query, then CONFIG_*.

    A name whose value was not recorded is left out.
    """
    facts = record.facts
    config = whole_run.config(record.dir)
    values, cell = config.values, run["cell"]
    provenance, identity = run.get("provenance", {}), cell.get("identity", {})
    git = provenance.get("git", {})
    starts = [row for row in record.attempts if row["event"] == "start"]
    start = starts[-1]
    device = start.get("device") or {}
    found = {
        "run_name": run_name(cell),
        "study": cell["study"],
        "step": cell["step"],
        "step_help": cell.get("help"),
        "control": cell.get("control"),
        "stage": cell.get("stage"),
        "changes": cell.get("changes"),
        "seed": cell["seed"],
        "cell_hash": cell["hash"],
        "started": starts[0]["time"],
        "batch_size": facts.get("micro_batch"),
        "gradient_accumulation": facts.get("accumulation"),
        "learning_rate": _number(values.get("LEARNING_RATE")),
        "max_time": values.get("GPT2_MAX_TIME"),
        "compile_model": values.get("GPT2_COMPILE"),
        "git_commit": git.get("commit"),
        "git_dirty": git.get("dirty"),
        "code_hash": identity.get("code"),
        "code_rule": identity.get("code_rule"),
        "dataset_sha256": identity.get("dataset"),
        "device": device.get("name"),
        "device_kind": device.get("kind"),
        "driver": device.get("driver"),
        "processor": provenance.get("cpu"),
        "threads": start.get("threads"),
        "torch": start.get("torch"),
        "python": start.get("python"),
        **{k: v for k, v in facts.items() if k not in COUNTERS},
        **{f"CONFIG_{symbol}": value for symbol, value in sorted(values.items())},
        "operational": sorted(config.operational),
    }
    return {key: value for key, value in found.items() if value is not None}


def _number(text: Any) -> float | None:
    """The number that a quoted symbol holds (Kconfig has no float), None for no number."""
    return float(text) if isinstance(text, str) and NUMBER.fullmatch(text) else None


def flatten(row: Mapping[str, Any]) -> Numbers:
    """A row of metrics.jsonl as a tracker takes it; {} for one that is no metric.

    Keys become KIND/KEY. A list by layer, or of lists by head, becomes its mean and
    extremes over all of it and a mean per layer; what is not defined is left out.
    """
    kind = row["kind"]
    if kind == "facts":
        return {}
    numbers: Numbers = {}
    for key, value in row.items():
        if key in COUNTERS:
            continue
        if isinstance(value, list):
            numbers |= _spread(f"{kind}/{key}", value)
        elif _is_number(value):
            numbers[f"{kind}/{key}"] = value
    return {"step": row["step"], "attempt": row["attempt"], **numbers}


def flatten_gpu(row: Mapping[str, Any]) -> Numbers:
    """A row of gpu.jsonl: its numbers under their own names, its time as gpu/time."""
    numbers = {k: v for k, v in row.items() if k.startswith("gpu/") and _is_number(v)}
    counters = {k: row[k] for k in ("step", "attempt") if row.get(k) is not None}
    return {**counters, "gpu/time": row["time"], **numbers} if numbers else {}


def flatten_summary(summary: Mapping[str, Any]) -> Numbers:
    """summary.json as the last row: final/loss … of the last evaluation, totals."""
    row: Numbers = {"step": summary["step"]}
    row |= {"attempt": summary["attempts"]} if "attempts" in summary else {}
    for key, value in [*summary.items(), *summary.get("final_eval", {}).items()]:
        if key in (*COUNTERS, *NOT_FINAL):
            continue
        if _is_number(value) or isinstance(value, str):
            row[f"final/{key}"] = value
    return row


def _spread(name: str, values: list[Any]) -> Numbers:
    """Mean, least and most of everything below `values`, and a mean per layer."""
    everything = list(_leaves(values))
    if not everything:
        return {}
    found = {
        f"{name}_mean": math.fsum(everything) / len(everything),
        f"{name}_min": min(everything),
        f"{name}_max": max(everything),
    }
    for layer, value in enumerate(values):
        here = list(_leaves([value]))
        if here:
            found[f"{name}/layer_{layer:02d}"] = math.fsum(here) / len(here)
    return found


def _leaves(values: list[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list):
            yield from _leaves(value)
        elif _is_number(value):
            yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
