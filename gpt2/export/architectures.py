"""Which architecture elsewhere can carry a model, and what none has a place for."""

from gpt2.export.bundle import ExportError
from gpt2.settings.mixers.attention import AttentionSettings
from gpt2.settings.run import ModelSettings

CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}
"""Of transformers; llama.cpp calls the same architectures gpt2 and llama."""

_COMMON = {"SOFTMAX", "DENSE", "OUTPUT_GATE_NONE", "MHA", "GPT2_BIAS"}
_GPT2 = {*_COMMON, "POSITION_LEARNED", "NORM_LAYERNORM", "MLP_GELU"}
_LLAMA = {*_COMMON, "GQA", "POSITION_ROPE", "NORM_RMSNORM", "MLP_SWIGLU"}

CARRIES = {
    "hf": {"gpt2": {*_GPT2, "MLP_RELU2"}, "llama": _LLAMA},
    "gguf": {"gpt2": _GPT2, "llama": _LLAMA},
}
"""Target -> architecture -> features it can express; a missing bias is zero."""

WORDS = {
    "MHA": "multi-head attention",
    "GQA": "grouped-query attention",
    "MLA": "latent attention, its keys and values are built from latents",
    "RA": "reciprocal attention, which adds transposed scores",
    "SOFTMAX": "softmax",
    "SOFTPICK": "softpick, whose rows need not sum to 1",
    "DENSE": "dense attention",
    "SLIDING": "a sliding window",
    "RA_CT": "the RA-CT gate, which reads the attention's probabilities",
    "OUTPUT_GATE_NONE": "no output gate",
    "OUTPUT_GATE_ELEMENTWISE": "an output gate per element",
    "OUTPUT_GATE_HEADWISE": "an output gate per head",
    "POSITION_LEARNED": "learned positions",
    "POSITION_ROPE": "rotary positions",
    "POSITION_NONE": "no positions",
    "NORM_LAYERNORM": "LayerNorm",
    "NORM_RMSNORM": "RMSNorm",
    "GPT2_BIAS": "biases",
    "MLP_GELU": "an MLP with GELU",
    "MLP_SWIGLU": "an MLP with SwiGLU",
    "MLP_RELU2": "an MLP with squared ReLU",
    "MLP_ATTN_GATE": "the MLP to attention gate, from one block to the next",
    "MLP_CROSS_TOKEN": "the cross-token MLP, which hears other tokens",
    "MLP_LATENT_RECIP": "the reciprocal latent, from one block to the next",
}


def features(settings: ModelSettings) -> list[str]:
    """The symbols, of those in WORDS, that say what this model computes."""
    attention, mlp = settings.attention, settings.mlp
    there = {
        attention.projection.upper(): True,
        "RA": attention.ra,
        attention.normaliser.upper(): True,
        attention.pattern.upper(): True,
        "RA_CT": attention.ra_ct,
        f"OUTPUT_GATE_{settings.output_gate.upper()}": True,
        f"POSITION_{settings.position.upper()}": True,
        f"NORM_{settings.norm.upper()}": True,
        "GPT2_BIAS": settings.bias,
        f"MLP_{mlp.kind.upper()}": True,
        "MLP_ATTN_GATE": mlp.attn_gate,
        "MLP_CROSS_TOKEN": mlp.cross_token,
        "MLP_LATENT_RECIP": mlp.latent_recip,
    }
    return [symbol for symbol, used in there.items() if used]


def _require_attention(settings: ModelSettings, target: str) -> None:
    """Raise ExportError where a layer is anything but attention: what a mixer that is
    not known here computes, no architecture below does.
    """
    for i, layer in enumerate(settings.layers):
        if type(layer) is not AttentionSettings:
            raise ExportError(
                f"FORMAT={target} cannot carry this model: layer {i} has the mixer "
                f"{layer.name}, and {', '.join(CARRIES[target])} have attention in all; "
                "FORMAT=native keeps everything, for kablate alone to read"
            )


def architecture(settings: ModelSettings, target: str) -> str:
    """The architecture of `target` (hf, gguf) that computes this model.

    Raises ExportError that names every feature for which the nearest one has no
    place.
    """
    _require_attention(settings, target)
    lacks = {
        name: [symbol for symbol in features(settings) if symbol not in carried]
        for name, carried in CARRIES[target].items()
    }
    nearest = min(lacks, key=lambda name: len(lacks[name]))
    if not lacks[nearest]:
        return nearest
    lines = [f"  CONFIG_{symbol}: {WORDS[symbol]}" for symbol in lacks[nearest]]
    where = CLASSES[nearest] if target == "hf" else f"llama.cpp's {nearest}"
    raise ExportError(
        f"FORMAT={target} cannot carry this model. {where}, the nearest architecture, "
        "has no place for\n" + "\n".join(lines) + "\n"
        "FORMAT=native keeps everything, for kablate alone to read"
    )
