"""What every tracker can do, and where it files the runs."""

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Mapping, Protocol, Sequence

from matrix.trackers.content import Description, Numbers
from records.extras import installing


class TrackerError(Exception):
    """A tracker that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Target:
    """Where a tracker files the runs. `entity` is W&B's; trackio's mode is local.

    `by` names, for each of the others that a variable decided, the variable and its
    value: {"mode": "WANDB_MODE=offline"}.
    """

    tracker: str
    project: str
    entity: str
    mode: str
    by: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> dict[str, Any]:
        """What tells one target from another, whatever decided it."""
        return {key: value for key, value in vars(self).items() if key != "by"}


class Sink(Protocol):
    """One run in a tracker. Every method raises TrackerError."""

    def open(
        self,
        about: Description,
        tags: Sequence[str],
        directory: Path,
        live: bool,
    ) -> int:
        """Create the run or go on with it; returns how many rows it holds.

        `directory` is the tracker's own below the run directory, for what it
        writes; `live` says that the run is going on.
        """

    def put(self, rows: Sequence[tuple[int, Numbers]]) -> None:
        """Rows with their numbers, counted from 0, in order."""

    def close(self, done: bool) -> None:
        """Everything is flushed; the cell is done, or it is not (yet)."""

    @property
    def url(self) -> str | None:
        """Where a person finds the run."""


def require_extra(name: str) -> None:
    """Raise TrackerError unless the package `name` is installed."""
    try:
        metadata.distribution(name)  # not find_spec: W&B makes folders named wandb
    except metadata.PackageNotFoundError:
        raise TrackerError(
            f"the package {name} is not installed: {installing(name)}"
        ) from None
