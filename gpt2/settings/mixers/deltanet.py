"""The settings of the delta rule."""

from dataclasses import dataclass

from gpt2.settings.mixers.mixer import MixerSettings


@dataclass(frozen=True)
class DeltanetSettings(MixerSettings):
    """Nothing to choose."""

    name, recurrence = "deltanet", "head"
    statistics = True


SETTINGS = DeltanetSettings
