"""The settings of attention."""

from dataclasses import dataclass
from typing import Any

from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import SettingsError, flag, integer, one_of, real


@dataclass(frozen=True)
class AttentionSettings(MixerSettings):
    """Slots of the attention: projection, score, normaliser, pattern, gates."""

    name = "attention"
    probabilities = rotates = statistics = True

    projection: str = one_of(MHA="mha", GQA="gqa", MLA="mla")
    mla_latent: int | None = integer("MLA_LATENT", optional=True)
    mla_shared_latent: bool = flag("MLA_SHARED_LATENT")
    mla_shared_up: bool = flag("MLA_SHARED_UP")
    ra: bool = flag("RA")
    ra_alpha: float | None = real("RA_ALPHA", optional=True)
    ra_learned: bool = flag("RA_LEARNED")
    ra_band: int | None = integer("RA_BAND", optional=True)
    normaliser: str = one_of(SOFTMAX="softmax", SOFTPICK="softpick")
    softpick_unsafe: bool = flag("SOFTPICK_UNSAFE")
    pattern: str = one_of(DENSE="dense", SLIDING="sliding")
    window: int | None = integer("WINDOW", optional=True)
    ra_ct: bool = flag("RA_CT")
    ra_ct_statistic: str | None = one_of(
        optional=True,
        RA_CT_TOPK="topk",
        RA_CT_MAX="max",
        RA_CT_ENTROPY="entropy",
        RA_CT_RMS="rms",
    )
    ra_ct_k: int | None = integer("RA_CT_K", optional=True)
    ra_ct_apply: str | None = one_of(
        optional=True, RA_CT_OUTPUT="output", RA_CT_WEIGHTS="weights"
    )
    ra_ct_alpha: float | None = real("RA_CT_ALPHA", low=0, high=1, optional=True)
    ra_ct_head_average: bool = flag("RA_CT_HEAD_AVERAGE")
    ra_ct_detach: bool = flag("RA_CT_DETACH")
    impl: str = one_of(
        ATTENTION_IMPL_AUTO="auto",
        ATTENTION_IMPL_REFERENCE="reference",
        ATTENTION_IMPL_SDPA="sdpa",
        ATTENTION_IMPL_FLEX="flex",
        ATTENTION_IMPL_TRITON="triton",
    )

    def __post_init__(self) -> None:
        if self.normaliser == "softpick" and self.ra_ct_statistic in ("entropy", "rms"):
            raise SettingsError(
                f"RA_CT_{self.ra_ct_statistic.upper()}",
                True,
                "has no meaning with CONFIG_SOFTPICK: its rows may sum to 0",
            )

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """See MixerSettings."""
        return super().asked(model) | {
            "kv_heads": ("CONFIG_KV_HEADS", model.kv_heads),
            "latent": ("CONFIG_MLA_LATENT / divisor", model.latent),
            "ra_band": ("CONFIG_RA_BAND", self.ra_band),
            "ra_alpha": ("CONFIG_RA_ALPHA", self.ra_alpha),
            "ra_learned": ("CONFIG_RA_LEARNED", self.ra_learned),
            "window": ("CONFIG_WINDOW", self.window),
        }

    @property
    def mechanisms(self) -> list[str]:
        """Symbols of what is not plain multi-head attention by `auto`."""
        named = {
            self.projection.upper(): self.projection != "mha",
            "RA": self.ra,
            "SOFTPICK": self.normaliser == "softpick",
            "SLIDING": self.window is not None,
            "RA_CT": self.ra_ct,
            f"ATTENTION_IMPL_{self.impl.upper()}": self.impl != "auto",
        }
        return [symbol for symbol, chosen in named.items() if chosen]

    @property
    def latent(self) -> bool:
        """Keys grow from a latent."""
        return self.projection == "mla"
