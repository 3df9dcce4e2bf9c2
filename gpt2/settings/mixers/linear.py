"""The settings of linear attention."""

from dataclasses import dataclass

from gpt2.settings.mixers.mixer import MixerSettings


@dataclass(frozen=True)
class LinearSettings(MixerSettings):
    """Nothing to choose."""

    name, recurrence = "linear", "head"


SETTINGS = LinearSettings
