"""Where the rows go: what every tracker can do, and how one is chosen."""

import netrc
import os
import re
from typing import Mapping

from matrix.settings import StudySettings
from matrix.trackers import wandb_variables
from matrix.trackers.target import Sink, Target

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
LEAST_SECRET = 8
"""Characters below which a value is no credential and its removal would garble."""


def targets(
    settings: StudySettings, environment: Mapping[str, str]
) -> tuple[list[Target], tuple[str, ...]]:
    """The configured trackers under W&B's own variables, and what a person must hear
    of these. Raises TrackerError for a variable that W&B does not know like that.
    """
    found, notes = [], ()
    if "wandb" in settings.trackers:
        wandb = wandb_variables.decide(settings, environment)
        found += [wandb.target] if wandb.target else []
        notes = wandb.notes
    if "trackio" in settings.trackers:
        found.append(Target("trackio", settings.tracker_project, "", "local"))
    return sorted(found, key=lambda each: settings.trackers.index(each.tracker)), notes


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
