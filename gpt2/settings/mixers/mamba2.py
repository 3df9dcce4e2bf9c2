"""The settings of Mamba-2."""

from dataclasses import dataclass
from typing import Any

from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import SettingsError, integer


@dataclass(frozen=True)
class Mamba2Settings(MixerSettings):
    """The width of its state."""

    name, recurrence = "mamba2", "head"
    statistics = True

    state: int = integer("MAMBA2_STATE")

    @property
    def widths(self) -> dict[str, int]:
        """See MixerSettings."""
        return {"MAMBA2_STATE": self.state}

    def state_width(self, model: Any) -> int:
        """N after CONFIG_WIDTH_DIVISOR."""
        return self.state // model.width_divisor

    def keys(self, model: Any) -> int:
        """See MixerSettings."""
        return self.state_width(model)

    def require(self, model: Any) -> None:
        """See MixerSettings."""
        if model.output_gate != "none":
            why = "gates E channels; mamba2's heads have 2 E, and a gate of their own"
            symbol = f"OUTPUT_GATE_{model.output_gate.upper()}"
            raise SettingsError(symbol, True, why)

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """See MixerSettings."""
        return super().asked(model) | {
            "heads": ("CONFIG_GPT2_HEADS, twice", 2 * model.heads),
            "mamba2_state": ("CONFIG_MAMBA2_STATE / divisor", self.state_width(model)),
        }


SETTINGS = Mamba2Settings
