"""The settings of the network: its shape and the choice in every slot.

docs/mechanisms.md describes the slots. A combination without a meaning is
rejected here with its reason, and in Kconfig by `depends on`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from gpt2.settings.mixers.attention import AttentionSettings
from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import (
    SettingsError,
    flag,
    integer,
    one_of,
    real,
    section,
    sections,
    symbols_of,
    text,
)

VOCAB_MULTIPLE = 64
CHOSEN = {
    "gpt2.settings.mixers.deltanet": ("MIXER_DELTANET", "deltanet in MIXER_LAYERS"),
    "gpt2.settings.mixers.gdn": ("MIXER_GDN", "gdn in MIXER_LAYERS"),
    "gpt2.settings.mixers.gla": ("MIXER_GLA", "gla in MIXER_LAYERS"),
    "gpt2.settings.mixers.linear": ("MIXER_LINEAR", "linear in MIXER_LAYERS"),
    "gpt2.settings.mixers.mamba2": ("MIXER_MAMBA2", "mamba2 in MIXER_LAYERS"),
    "gpt2.settings.mixers.nsa": ("MIXER_NSA", "nsa in MIXER_LAYERS"),
    "gpt2.settings.mixers.retnet": ("MIXER_RETNET", "retnet in MIXER_LAYERS"),
}
"""The settings of mixers beside attention, imported where a layer is one."""
OTHERS = tuple(module.rpartition(".")[2] for module in CHOSEN)
MIXERS = ("attention", *OTHERS)
"""Names of mixers: CONFIG_MIXER_NAME=y, and in CONFIG_MIXER_LAYERS."""
# Scores of a row that the fused kernels keep; equal to theirs by test.
MOST_KEPT = 16
# The widest keys of the recurrence's kernels; likewise.
WIDEST_KEYS = 128


@dataclass(frozen=True)
class MlpSettings:
    """Slots of the MLP: activation, width, reciprocal mechanisms."""

    kind: str = one_of(MLP_GELU="gelu", MLP_SWIGLU="swiglu", MLP_RELU2="relu2")
    dim: int = integer("MLP_DIM")
    attn_gate: bool = flag("MLP_ATTN_GATE")
    attn_gate_rank: int | None = integer("MLP_ATTN_GATE_RANK", optional=True)
    attn_gate_alpha: float | None = real(
        "MLP_ATTN_GATE_ALPHA", low=0, high=1, optional=True
    )
    attn_gate_mean: bool = flag("MLP_ATTN_GATE_MEAN")
    cross_token: bool = flag("MLP_CROSS_TOKEN")
    cross_token_rank: int | None = integer("MLP_CROSS_TOKEN_RANK", optional=True)
    cross_token_alpha: float | None = real("MLP_CROSS_TOKEN_ALPHA", optional=True)
    cross_token_mode: str | None = one_of(
        optional=True,
        MLP_CROSS_TOKEN_NONE="none",
        MLP_CROSS_TOKEN_TOPK="topk",
        MLP_CROSS_TOKEN_RMS="rms",
    )
    cross_token_k: int | None = integer("MLP_CROSS_TOKEN_K", optional=True)
    cross_token_tau: float | None = real("MLP_CROSS_TOKEN_TAU", low=0, optional=True)
    cross_token_gradient: bool = flag("MLP_CROSS_TOKEN_GRADIENT")
    latent_recip: bool = flag("MLP_LATENT_RECIP")
    latent_tying: str | None = one_of(
        optional=True,
        MLP_LATENT_UNTIED="untied",
        MLP_LATENT_TIED="tied_transpose",
        MLP_LATENT_SCALAR="per_head_scalar",
    )
    latent_alpha: float | None = real("MLP_LATENT_ALPHA", optional=True)


def _settings_of(name: str) -> type[MixerSettings]:
    """The settings class of a mixer that is not attention."""
    return import_module(f"gpt2.settings.mixers.{name}").SETTINGS


def _chooses(values: Mapping[str, Any], name: str) -> bool:
    """Whether a configuration has a layer of that mixer. Raises SettingsError where its
    own symbols, which are active with MIXER_NAME=y, and the layers disagree.
    """
    pattern, symbol = values["MIXER_LAYERS"].split(), f"MIXER_{name.upper()}"
    chosen, active = name in pattern if pattern else values[symbol], values[symbol]
    if chosen and not active and symbols_of(_settings_of(name)):
        why = f"{name} needs CONFIG_{symbol}=y, with which its options are active"
        raise SettingsError("MIXER_LAYERS", values["MIXER_LAYERS"], why)
    if active and not chosen and symbols_of(_settings_of(name)):
        why = f"has options that act on {name}, which is none of {' '.join(pattern)}"
        raise SettingsError(symbol, True, why)
    return chosen


@dataclass(frozen=True)
class ModelSettings:
    """Shape of the network. Fields are as configured; the properties below are
    what is built: widths and ranks after the divisor.
    """

    size: str = one_of(
        GPT2_SIZE_TINY="tiny",
        GPT2_SIZE_124M="124M",
        GPT2_SIZE_350M="350M",
        GPT2_SIZE_774M="774M",
        GPT2_SIZE_1_5B="1.5B",
        GPT2_SIZE_CUSTOM="custom",
    )
    depth: int = integer("GPT2_LAYERS")
    width: int = integer("GPT2_WIDTH")
    heads: int = integer("GPT2_HEADS")
    block_size: int = integer("GPT2_BLOCK_SIZE")
    vocab_size: int = integer("GPT2_VOCAB_SIZE")
    width_divisor: int = integer("WIDTH_DIVISOR")
    length_divisor: int = integer("LENGTH_DIVISOR")
    bias: bool = flag("GPT2_BIAS")
    loss: str = one_of(LOSS_AUTO="auto", LOSS_PLAIN="plain", LOSS_CHUNKED="chunked")
    dropout: float = real("GPT2_DROPOUT", low=0.0, below=1.0)
    position: str = one_of(
        POSITION_LEARNED="learned", POSITION_ROPE="rope", POSITION_NONE="none"
    )
    rope_base: float | None = real("ROPE_BASE", above=1.0, optional=True)
    documents_apart: bool = flag("DOCUMENTS_APART")
    norm: str = one_of(NORM_LAYERNORM="layernorm", NORM_RMSNORM="rmsnorm")
    mixer: str = one_of(**{f"MIXER_{name.upper()}": name for name in MIXERS})
    mixer_layers: str = text("MIXER_LAYERS")
    mixer_impl: str = one_of(
        MIXER_IMPL_AUTO="auto",
        MIXER_IMPL_REFERENCE="reference",
        MIXER_IMPL_TRITON="triton",
        MIXER_IMPL_FLA="fla",
    )
    grouped: int | None = integer("KV_HEADS", optional=True)
    output_gate: str = one_of(
        OUTPUT_GATE_NONE="none",
        OUTPUT_GATE_ELEMENTWISE="elementwise",
        OUTPUT_GATE_HEADWISE="headwise",
    )
    attention: AttentionSettings | None = section(
        AttentionSettings, ("MIXER_ATTENTION", "MIXER_LAYERS")
    )
    others: tuple[MixerSettings, ...] = sections(OTHERS, _settings_of, _chooses)
    mlp: MlpSettings = section(MlpSettings)

    def __post_init__(self) -> None:
        divisor, mlp = self.width_divisor, self.mlp
        self._require_layers()
        for symbol, value in [
            ("MLP_DIM", mlp.dim),
            ("GPT2_VOCAB_SIZE", self.vocab_size),
        ]:
            if value < 1:
                why = "the merge puts the number here that a 0 stands for"
                raise SettingsError(symbol, value, why)
        for symbol, value in [
            ("GPT2_WIDTH", self.width),
            ("MLP_DIM", mlp.dim),
            ("MLA_LATENT", self.attention and self.attention.mla_latent),
            ("MLP_ATTN_GATE_RANK", mlp.attn_gate_rank),
            ("MLP_CROSS_TOKEN_RANK", mlp.cross_token_rank),
        ]:
            if value is not None and value % divisor:
                why = f"is not a multiple of CONFIG_WIDTH_DIVISOR={divisor}"
                raise SettingsError(symbol, value, why)
        for layer in dict.fromkeys(self.layers):
            self._require_divisible(layer)
            layer.require(self)
        if self.width // divisor % self.heads:
            why = f"does not divide the width {self.width} / {divisor}"
            raise SettingsError("GPT2_HEADS", self.heads, why)
        if self.position == "rope" and self.head_width % 2:
            why = f"rotates pairs, but the head width is {self.head_width}"
            raise SettingsError("POSITION_ROPE", True, why)
        self._reject_attention()
        self._reject_recurrence()
        self._reject_combinations()

    def _require_divisible(self, layer: MixerSettings) -> None:
        """Raise where a divisor leaves a rest of what a mixer has divided."""
        for name, symbols in [("WIDTH", layer.widths), ("LENGTH", layer.lengths)]:
            divisor = {"WIDTH": self.width_divisor, "LENGTH": self.length_divisor}[name]
            for symbol, value in symbols.items():
                if value % divisor:
                    why = f"is not a multiple of CONFIG_{name}_DIVISOR={divisor}"
                    raise SettingsError(symbol, value, why)

    def with_attention(self, **changes: Any) -> "ModelSettings":
        """The same with other settings of attention, where there is any."""
        if self.attention is None:
            return self
        return replace(self, attention=replace(self.attention, **changes))

    @property
    def pattern(self) -> tuple[str, ...]:
        """Names of mixers, which repeat down the depth."""
        return tuple(self.mixer_layers.split()) or (self.mixer,)

    @property
    def layers(self) -> tuple[MixerSettings, ...]:
        """The mixer of every layer."""
        names = self.pattern
        return tuple(self.of(names[i % len(names)]) for i in range(self.depth))

    @property
    def recurrences(self) -> set[str]:
        """What the states of its recurrent layers decay by; none where no layer is."""
        return {layer.recurrence for layer in self.layers} - {""}

    @property
    def widest_keys(self) -> int:
        """Of the keys and values of states that decay by head; 0 where none does."""
        layers = [layer for layer in self.layers if layer.recurrence == "head"]
        wide = [max(layer.keys(self), self.head_width) for layer in layers]
        return max(wide, default=0)

    def of(self, name: str) -> MixerSettings:
        """The settings of a mixer that some layer has."""
        return ({"attention": self.attention} | {m.name: m for m in self.others})[name]

    def _require_layers(self) -> None:
        """Raise unless CONFIG_MIXER_LAYERS names mixers, and fits into the depth."""
        unknown = [name for name in self.pattern if name not in MIXERS]
        why = ""
        if unknown:
            why = (
                f"{unknown[0]!r} is no mixer: {', '.join(MIXERS)}, blanks between them"
            )
        elif len(self.pattern) > self.depth:
            why = f"needs CONFIG_GPT2_LAYERS of at least {len(self.pattern)}"
        if why:
            raise SettingsError("MIXER_LAYERS", self.mixer_layers, why)

    def _reject_attention(self) -> None:
        """What attention does not offer together, and what has no layer to act on."""
        attention = self.attention
        if attention is None:
            return
        if attention not in self.layers:
            for symbol in attention.mechanisms:
                why = f"acts on attention, which is none of {' '.join(self.pattern)}"
                raise SettingsError(symbol, True, why)
            return
        if self.heads % self.kv_heads:
            why = f"does not divide CONFIG_GPT2_HEADS={self.heads}"
            raise SettingsError("KV_HEADS", self.kv_heads, why)
        if attention.projection == "mla" and self.position == "rope":
            why = "has no form with RoPE here: positions would not survive the latent"
            raise SettingsError("MLA", True, why)
        obstacle = self.obstacle(attention.impl)
        if obstacle:
            raise SettingsError(
                f"ATTENTION_IMPL_{attention.impl.upper()}",
                True,
                f"cannot serve {obstacle}: use auto or reference",
            )

    def _reject_recurrence(self) -> None:
        """An implementation that computes no layer of these."""
        kinds, why = self.recurrences, ""
        if self.mixer_impl == "fla":
            why = "comes later: use auto, reference or triton"
        elif self.mixer_impl != "auto" and not kinds:
            why = f"acts on recurrent mixers, which none of {' '.join(self.pattern)} is"
        elif self.mixer_impl == "triton" and "head" not in kinds:
            why = "has no kernels for decays by channel: use auto or reference"
        elif self.mixer_impl == "triton" and self.widest_keys > WIDEST_KEYS:
            why = (
                f"serves heads and states up to {WIDEST_KEYS} wide, not "
                f"{self.widest_keys}: use auto or reference"
            )
        if why:
            raise SettingsError(f"MIXER_IMPL_{self.mixer_impl.upper()}", True, why)

    def _reject_combinations(self) -> None:
        """A mechanism of the MLP, or positions, that the layers have no place for."""
        mlp, layers = self.mlp, self.layers
        if mlp.cross_token and not all(layer.probabilities for layer in layers):
            why = "routes by the probabilities of the block's attention"
            raise SettingsError("MLP_CROSS_TOKEN", True, self._lacking(why))
        if mlp.latent_recip and not all(layer.latent for layer in layers):
            why = "needs CONFIG_MLA: a latent"
            raise SettingsError("MLP_LATENT_RECIP", True, self._lacking(why))
        if self.position == "rope" and not any(layer.rotates for layer in layers):
            why = "rotates the queries and keys of attention"
            raise SettingsError("POSITION_ROPE", True, self._lacking(why))
        if mlp.latent_tying == "per_head_scalar" and self.latent > self.mlp_dim:
            why = f"needs a latent ({self.latent}) no wider than the MLP"
            raise SettingsError("MLP_LATENT_SCALAR", True, why)

    def _lacking(self, why: str) -> str:
        others = [name for name in self.pattern if name != "attention"]
        return f"{why}; {others[0]} has none" if others else why

    def obstacle(self, impl: str) -> str | None:
        """What keeps an attention implementation from computing this model, or
        None.
        """
        attention, mlp = self.attention, self.mlp
        if attention not in self.layers:
            return "a model without attention"
        torchs = {
            "the transposed score of CONFIG_RA": attention.ra,
            "CONFIG_SOFTPICK": attention.normaliser == "softpick",
            "the statistics of CONFIG_RA_CT": attention.ra_ct,
            "the routing of CONFIG_MLP_CROSS_TOKEN": mlp.cross_token,
        }
        dropped = "a dropout of probabilities (CONFIG_GPT2_DROPOUT)"
        limits = {
            "sdpa": torchs,
            "flex": torchs | {dropped: self.dropout > 0},
            "triton": {
                dropped: self.dropout > 0,
                f"heads {self.head_width} wide (multiples of 8 up to 128)": (
                    self.head_width % 8 != 0 or self.head_width > 128
                ),
                "CONFIG_RA_CT_HEAD_AVERAGE": attention.ra_ct_head_average,
                "CONFIG_RA_CT_WEIGHTS of the transposed score of CONFIG_RA": (
                    attention.ra_ct_apply == "weights" and attention.ra
                ),
                f"CONFIG_RA_CT_K={attention.ra_ct_k} (at most {MOST_KEPT})": (
                    (attention.ra_ct_k or 0) > MOST_KEPT
                ),
                "a CONFIG_MLP_CROSS_TOKEN that is not CONFIG_MLP_CROSS_TOKEN_TOPK": (
                    mlp.cross_token and mlp.cross_token_mode != "topk"
                ),
                f"CONFIG_MLP_CROSS_TOKEN_K={mlp.cross_token_k} (at most {MOST_KEPT})": (
                    (mlp.cross_token_k or 0) > MOST_KEPT
                ),
                "CONFIG_MLP_CROSS_TOKEN_GRADIENT": mlp.cross_token_gradient,
            },
        }
        obstacles = limits.get(impl, {})
        return next((name for name, met in obstacles.items() if met), None)

    @property
    def embed(self) -> int:
        """Model width E after the divisor."""
        return self.width // self.width_divisor

    @property
    def head_width(self) -> int:
        """D = E / H."""
        return self.embed // self.heads

    @property
    def kv_heads(self) -> int:
        """Key/value heads G of attention: H unless GQA."""
        groups = self.attention is not None and self.attention.projection == "gqa"
        return (groups and self.grouped) or self.heads

    @property
    def mlp_dim(self) -> int:
        """MLP width F after the divisor."""
        return self.mlp.dim // self.width_divisor

    @property
    def latent(self) -> int | None:
        """Latent width L after the divisor, None without MLA."""
        return self._divided(self.attention and self.attention.mla_latent)

    @property
    def gate_rank(self) -> int | None:
        """r_g after the divisor, None without the MLP to attention gate."""
        return self._divided(self.mlp.attn_gate_rank)

    @property
    def cross_rank(self) -> int | None:
        """r_x after the divisor, None without the cross-token MLP."""
        return self._divided(self.mlp.cross_token_rank)

    @property
    def vocab_rows(self) -> int:
        """Rows of the embedding: the vocabulary padded to a multiple of 64."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    def _divided(self, wide: int | None) -> int | None:
        return None if wide is None else wide // self.width_divisor
