"""Where the rows go: what every tracker can do, and how one is chosen."""

import netrc
import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol, Sequence

from matrix.settings import NO_TRACKER, StudySettings
from matrix.trackers.content import Description, Numbers
from records.extras import installing

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
LEAST_SECRET = 8
"""Characters below which a value is no credential and its removal would garble."""


class TrackerError(Exception):
    """A tracker that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Target:
    """Where a tracker files the runs. `entity` is W&B's; trackio's mode is local."""

    tracker: str
    project: str
    entity: str
    mode: str


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


def targets(settings: StudySettings) -> list[Target]:
    """The configured trackers. Raises TrackerError for an extra that is absent."""
    names = [name for name in settings.trackers if name != NO_TRACKER]
    for name in names:
        require_extra(name)
    project = settings.tracker_project
    known = {
        "wandb": Target("wandb", project, settings.wandb_entity, settings.wandb_mode),
        "trackio": Target("trackio", project, "", "local"),
    }
    return [known[name] for name in names]


def require_extra(name: str) -> None:
    """Raise TrackerError unless the package `name` is installed."""
    try:
        metadata.distribution(name)  # not find_spec: W&B makes folders named wandb
    except metadata.PackageNotFoundError:
        raise TrackerError(
            f"the package {name} is not installed: {installing(name)}"
        ) from None


def make_sink(target: Target) -> Sink:
    """A new sink of the target's tracker."""
    if target.tracker == "wandb":
        from matrix.trackers.wandb_sink import WandbSink

        return WandbSink(target)
    from matrix.trackers.trackio_sink import TrackioSink

    return TrackioSink(target)


def scrub(text: str) -> str:
    """The text without any credential of the environment or of ~/.netrc."""
    found = [value for name, value in os.environ.items() if SECRET.search(name)]
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts.values()
    except (OSError, netrc.NetrcParseError):
        hosts = []
    found += [password for *_, password in hosts if password]
    for value in sorted(found, key=len, reverse=True):
        if len(value) >= LEAST_SECRET:
            text = text.replace(value, "[credential]")
    return text
