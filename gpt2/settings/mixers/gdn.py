"""The settings of Gated DeltaNet."""

from dataclasses import dataclass

from gpt2.settings.mixers.mixer import MixerSettings


@dataclass(frozen=True)
class GdnSettings(MixerSettings):
    """Nothing to choose."""

    name, recurrence = "gdn", "head"
    statistics = True


SETTINGS = GdnSettings
