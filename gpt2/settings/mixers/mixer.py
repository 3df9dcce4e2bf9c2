"""What the settings of every mixer say, besides its own symbols."""

from typing import Any, ClassVar


class MixerSettings:
    """What every mixer's settings say of it.

    name: in CONFIG_MIXER_LAYERS. probabilities: whether it makes them, for routing and
    statistics of heads. rotates: whether it has a place for CONFIG_POSITION_ROPE.
    latent: whether the MLP can reach its key latent.
    """

    name: ClassVar[str]
    probabilities: ClassVar[bool] = False
    rotates: ClassVar[bool] = False
    latent: ClassVar[bool] = False

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """What a layer of it is to have: fact of the built mixer -> (symbol, value).
        model: ModelSettings, which holds this.
        """
        return {
            "mixer": ("CONFIG_MIXER", self.name),
            "heads": ("CONFIG_GPT2_HEADS", model.heads),
            "biases": ("CONFIG_GPT2_BIAS", model.bias),
        }
