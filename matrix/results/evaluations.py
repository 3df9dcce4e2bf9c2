"""What runs were evaluated on after training, step by step, never mixed.

Two rows of evaluations.jsonl are one measurement when their name and their
protocol (settings, and the hash of what was asked) agree. Means and differences
are made of such rows alone; whatever else is there is named.
"""

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from matrix import units
from matrix.results import fairness
from matrix.results.metrics import Metric
from matrix.results.rows import Row
from matrix.results.run import Run


@dataclass(frozen=True)
class Measured:
    """A number of a run, and the protocol under which it was measured."""

    value: float
    protocol: str


def _protocol(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256 of what was asked": row["sha256"], **row["settings"]}


def names(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(text or task, metric) of everything that any of the runs was evaluated on."""
    found = [
        (name, metric)
        for run in runs
        for name, row in run.evaluations.items()
        for metric in row["metrics"]
    ]
    return sorted(units.distinct(found), key=lambda pair: pair[0])


def different_protocols(runs: Sequence[Run], only: str | None = None) -> list[str]:
    """A line per setting in which evaluations of one name differ between runs."""
    lines = []
    for name in units.distinct(name for name, _ in names(runs)):
        if only not in (None, name):
            continue
        here = [run for run in runs if name in run.evaluations]
        protocols = [_protocol(run.evaluations[name]) for run in here]
        for key in units.distinct(key for each in protocols for key in each):
            values = {
                run.run_dir: fairness.shown(each.get(key))
                for run, each in zip(here, protocols)
            }
            if len(set(values.values())) > 1:
                who = fairness.rarer_values(here, values)
                lines.append(f"evaluations of {name} differ in {key}: {who}")
    return lines


def incomparable(runs: Sequence[Run], metric: Metric) -> list[str]:
    """Why an evaluation cannot be compared between these runs; () for other metrics."""
    if metric.evaluation is None:
        return []
    lines = different_protocols(runs, metric.evaluation)
    wanted = "lower" if metric.lower_is_better else "higher"
    for run in runs:
        row = run.evaluations.get(metric.evaluation, {})
        found = row.get("better", {}).get(metric.key, wanted)
        if found != wanted:
            lines.append(
                f"{metric.name} was taken for {wanted} is better, {run.run_dir} "
                f"records that {found} is"
            )
    return lines


def measured(row: Row, name: str, metric: str) -> dict[int, Measured]:
    """The numbers of a step by seed."""
    found = {}
    for seed, run in row.runs.items():
        evaluated = run.evaluations.get(name)
        if evaluated is not None and metric in evaluated["metrics"]:
            protocol = repr(sorted(_protocol(evaluated).items()))
            found[seed] = Measured(evaluated["metrics"][metric], protocol)
    return found
