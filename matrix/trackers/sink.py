"""Where the rows go: what every tracker can do, and how one is chosen."""

import netrc
import os
import re

from matrix.settings import NO_TRACKER, StudySettings
from matrix.trackers.target import Sink, Target, require_extra

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
LEAST_SECRET = 8
"""Characters below which a value is no credential and its removal would garble."""


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
