"""The facts of a publication, of runs from any source."""

from typing import Any, Sequence

from matrix.published.run import PublishedRun
from matrix.results import publication

NAMES = {
    "tokens": "final/tokens",
    "steps": "final/steps",
    "stopped_by": "final/stopped_by",
    "context": "CONFIG_GPT2_BLOCK_SIZE",
    "eval_interval": "CONFIG_GPT2_EVAL_INTERVAL",
}
"""Where a tracker has a value of matrix/results/recorded.py under another name."""
NEEDED = (
    "effective_batch",
    "micro_batch",
    "accumulation",
    "tokens",
    "steps",
    "budget",
    "context",
    "CONFIG_LEARNING_RATE",
    "dtype",
    "compile",
    "device",
    "torch",
    "dataset_sha256",
    "git_commit",
    "eval_sha256",
)
"""What every run records, whatever it trains on; of a GPU the driver as well."""


def value_of(run: PublishedRun, key: str) -> Any:
    """A value by its name: final/… from the last row, others from the config."""
    if key == "final/steps":
        return max(
            (row["step"] for row in run.history if "final/loss" in row), default=None
        )
    return run.final(key) if key.startswith("final/") else run.config.get(key)


def values_of(runs: Sequence[PublishedRun]) -> publication.Values:
    """The values of runs by the names that the list of facts takes.

    A symbol that a run lists without a value had no place in its configuration.
    """

    def values(name: str) -> list[Any]:
        found = [value_of(run, NAMES.get(name, name)) for run in runs]
        if not name.startswith(publication.SYMBOL):
            return found
        return ["inactive" if value is None else value for value in found]

    return values


def unrecorded(runs: Sequence[PublishedRun]) -> list[str]:
    """One line per fact that a run does not record."""
    lines = []
    for name in (*NEEDED, "driver"):
        lacking = [
            run.name
            for run in runs
            if value_of(run, NAMES.get(name, name)) is None
            and (name != "driver" or run.config.get("device_kind") == "cuda")
        ]
        if lacking:
            more = len(lacking) - 3
            names = ", ".join(lacking[:3]) + (f" and {more} more" if more > 0 else "")
            lines.append(f"{name} is not recorded in {names}")
    return lines
