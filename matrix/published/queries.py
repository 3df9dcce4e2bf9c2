"""What the scripts ask of published runs; each question has an Answer."""

from typing import Any, Sequence

from matrix.published.checklist import (
    BATCH,
    BUDGET,
    COMPILE,
    DATASET,
    HARDWARE,
    PROTOCOL,
    TOKENS,
    block,
    changed,
    checklist,
    differing,
    value_of,
)
from matrix.published.events import of_devices
from matrix.published.run import PublishedError, PublishedRun, spread
from matrix.published.table import Answer

QUERIED = (
    "run_name",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "max_time",
    "compile_model",
    "git_commit",
)
GPU_KEYS = (
    "gpu/compute_util_avg",
    "gpu/memory_util_avg",
    "gpu/memory_used_avg_gb",
    "gpu/memory_total_avg_gb",
    "gpu/power_avg_w",
    "gpu/temperature_avg_c",
    "gpu/clock_avg_mhz",
)
SPREAD = ("samples", "mean", "min", "median", "max")
LOW_BANDWIDTH, LOW_COMPUTE = 20.0, 50.0
"""Per cent below which a hint is given."""


def keys(runs: Sequence[PublishedRun]) -> Answer:
    """Every name in the history, the configuration and the machine's samples."""
    rows = []
    for run in runs:
        for key in sorted(run.keys):
            values = run.series(key)
            first, last = list(values.values())[0], list(values.values())[-1]
            found = {"in": "history", "values": len(values), "first": first}
            rows.append({"run": run.name, "key": key, **found, "last": last})
        for key, value in sorted(run.config.items()):
            rows.append({"run": run.name, "key": key, "in": "config", "last": value})
        for key in sorted({key for row in run.events for key in row}):
            values = [row[key] for row in run.events if key in row]
            found = {"in": "events", "values": len(values), "first": values[0]}
            rows.append({"run": run.name, "key": key, **found, "last": values[-1]})
    columns = ("run", "in", "key", "values", "first", "last")
    return Answer(_title("Keys", runs), columns, rows)


def gpu(runs: Sequence[PublishedRun]) -> Answer:
    """The averages over all GPUs that the history holds, with hints."""
    rows, notes = [], []
    for run in runs:
        found = {}
        for key in GPU_KEYS:
            values = [row[key] for row in run.history if row.get(key) is not None]
            if values:
                found[key] = spread(values)
                rows.append({"run": run.name, "key": key, **found[key]})
        if not found:
            raise PublishedError(
                f"no GPU rows in {run.name} ({run.where}): it ran on a CPU, or without "
                "the sampler that writes gpu.jsonl"
            )
        means = {key: each["mean"] for key, each in found.items()}
        bandwidth = means.get("gpu/memory_util_avg")
        compute = means.get("gpu/compute_util_avg")
        notes += [f"{run.name}: {hint}" for hint in hints(compute, bandwidth)]
    return Answer(_title("GPU, averages", runs), ("run", "key", *SPREAD), rows, notes)


def gpu_full(runs: Sequence[PublishedRun]) -> Answer:
    """Every quantity of every GPU: W&B's event stream, and our sampler's rows."""
    rows, notes = [], []
    for run in runs:
        taken = {"W&B's monitor": run.events, "gpu.jsonl": run.history}
        for sampler, samples in taken.items():
            found = {k: spread(v) for k, v in of_devices(samples).items()}
            head = {"run": run.name, "from": sampler}
            rows += [{**head, "key": key, **each} for key, each in found.items()]
            for device in sorted({key.rpartition("/")[0] for key in found}):
                names = (f"{device}/compute_util", f"{device}/memory_util")
                loads = [found[key]["mean"] if key in found else None for key in names]
                notes += [f"{run.name}, {device}: {hint}" for hint in hints(*loads)]
        if not any(row["run"] == run.name for row in rows):
            raise PublishedError(
                f"no GPU samples in {run.name} ({run.where}): it ran on a CPU, or "
                "nothing sampled its GPUs"
            )
    title = _title("GPU, every sample", runs)
    return Answer(title, ("run", "from", "key", *SPREAD), rows, notes)


def hints(compute: float | None, bandwidth: float | None) -> list[str]:
    """What low loads mean; arguments in per cent of the time, None where unknown."""
    found = []
    if compute is not None and compute < LOW_COMPUTE:
        found.append(
            f"compute is busy {compute:.0f} % of the time, below {LOW_COMPUTE:.0f} %: "
            "the GPU waits for the host (small batch, launch overhead, data, "
            "evaluation); a larger batch or CONFIG_GPT2_COMPILE=y helps"
        )
    if bandwidth is not None and bandwidth < LOW_BANDWIDTH:
        found.append(
            f"memory is busy {bandwidth:.0f} % of the time, below "
            f"{LOW_BANDWIDTH:.0f} %: bandwidth is not the limit, and reading less "
            "(fused kernels, smaller types) gains little; with compute low as well, "
            "the GPU is short of work"
        )
    return found


def compare(runs: Sequence[PublishedRun], metrics: Sequence[str] = ()) -> Answer:
    """Hyperparameters, fairness and metrics side by side."""
    if len(runs) < 2:
        raise PublishedError("a comparison takes two runs or more: --run-name A B")
    names = [run.name for run in runs]

    def row(part: str, key: str, values: Sequence[Any]) -> dict[str, Any]:
        mark = "" if len(set(map(str, values))) == 1 else "≠"
        return {"part": part, "key": key, "differs": mark, **dict(zip(names, values))}

    symbols = sorted({key for run in runs[1:] for key in changed(runs[0], run)})
    rows = [
        row("hyperparameters", key, [run.config.get(key) for run in runs])
        for key in (*QUERIED, *symbols)
    ]
    fairness = (*BUDGET, *TOKENS, *BATCH, *HARDWARE, *COMPILE, *DATASET, *PROTOCOL)
    rows += [
        row("fairness", key, [value_of(run, key) for run in runs]) for key in fairness
    ]
    wanted = metrics or _finals(runs)
    rows += [row("metrics", key, [run.last(key) for run in runs]) for key in wanted]
    unequal = differing(runs, fairness)
    notes = [f"unequal {line}" for line in unequal]
    notes.append("Descriptive: no verdict follows from this (docs/evidence.md).")
    columns = ("part", "key", "differs", *names)
    return Answer(_title("Comparison", runs), columns, rows, notes)


def _finals(runs: Sequence[PublishedRun]) -> list[str]:
    """The totals that every run has."""
    shared = set(runs[0].keys).intersection(*(run.keys for run in runs[1:]))
    return sorted(key for key in shared if key.startswith("final/"))


def verify(runs: Sequence[PublishedRun], remote: str | None) -> Answer:
    """The publication checklist; status 1 when something fails."""
    items = checklist(runs, remote)
    rows = [
        {
            "result": "pass" if item.passed else "FAIL",
            "check": item.name,
            "against": len(item.against),
        }
        for item in items
    ]
    notes = [f"FAIL {i.name}: {line}" for i in items for line in i.against]
    text = block(runs, items, remote)
    status = 0 if all(item.passed for item in items) else 1
    columns = ("result", "check", "against")
    title = _title("Publication checklist", runs)
    return Answer(title, columns, rows, [*notes, "", text], status, {"block": text})


def _title(what: str, runs: Sequence[PublishedRun]) -> str:
    names = ", ".join(run.name for run in runs[:3])
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"{what}: {names}{more}"
