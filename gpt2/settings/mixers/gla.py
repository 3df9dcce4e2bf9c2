"""The settings of gated linear attention."""

from dataclasses import dataclass
from typing import Any

from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import integer


@dataclass(frozen=True)
class GlaSettings(MixerSettings):
    """The rank of its decays."""

    name, recurrence = "gla", "channel"
    statistics = True

    low_rank: int = integer("GLA_RANK")

    @property
    def widths(self) -> dict[str, int]:
        """See MixerSettings."""
        return {"GLA_RANK": self.low_rank}

    def rank(self, model: Any) -> int:
        """r after CONFIG_WIDTH_DIVISOR."""
        return self.low_rank // model.width_divisor

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """See MixerSettings."""
        return super().asked(model) | {
            "gla_rank": ("CONFIG_GLA_RANK / divisor", self.rank(model)),
        }


SETTINGS = GlaSettings
