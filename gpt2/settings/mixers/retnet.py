"""The settings of retention."""

from dataclasses import dataclass
from typing import Any

from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import SettingsError


@dataclass(frozen=True)
class RetnetSettings(MixerSettings):
    """Nothing to choose."""

    name, recurrence = "retnet", "head"
    rotates = statistics = True

    def require(self, model: Any) -> None:
        """See MixerSettings."""
        if model.head_width % 2:
            why = f"retnet rotates pairs, but the head width is {model.head_width}"
            raise SettingsError("GPT2_HEADS", model.heads, why)


SETTINGS = RetnetSettings
