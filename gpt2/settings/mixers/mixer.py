"""What the settings of every mixer say, besides its own symbols."""

from typing import Any, ClassVar


class MixerSettings:
    """What every mixer's settings say of it.

    name: in CONFIG_MIXER_LAYERS. probabilities: whether it makes them, for routing.
    statistics: whether its heads have any, for CONFIG_LOG_ATTENTION_STATS. rotates: whether it has a place for CONFIG_POSITION_ROPE.
    latent: whether the MLP can reach its key latent.
    recurrence: what its state decays by, "head" (or nothing at all) or "channel"; "" of a
    mixer that has no state.
    """

    name: ClassVar[str]
    probabilities: ClassVar[bool] = False
    statistics: ClassVar[bool] = False
    rotates: ClassVar[bool] = False
    latent: ClassVar[bool] = False
    recurrence: ClassVar[str] = ""

    @property
    def widths(self) -> dict[str, int]:
        """Its symbols that CONFIG_WIDTH_DIVISOR divides, with their values."""
        return {}

    @property
    def lengths(self) -> dict[str, int]:
        """Its symbols that CONFIG_LENGTH_DIVISOR divides, with their values."""
        return {}

    def keys(self, model: Any) -> int:
        """How wide the keys of a head's state are, where it has one."""
        return model.head_width

    def tokens(self, model: Any) -> int:
        """How long a text is in which all shows that a layer of it does."""
        return 0

    def require(self, model: Any) -> None:
        """Raise SettingsError where it does not fit the model, which holds it."""

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """What a layer of it is to have: fact of the built mixer -> (symbol, value).
        model: ModelSettings, which holds this.
        """
        return {
            "mixer": ("CONFIG_MIXER", self.name),
            "heads": ("CONFIG_GPT2_HEADS", model.heads),
            "biases": ("CONFIG_GPT2_BIAS", model.bias),
        }
