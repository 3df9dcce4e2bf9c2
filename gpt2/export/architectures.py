"""Which architecture elsewhere can carry a model, and what none has a place for."""

from gpt2.export.bundle import ExportError
from gpt2.settings.run import ModelSettings

REMOTE = "kablate"
"""The architecture of modeling_kablate.py, for what no other can express."""
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    REMOTE: "KablateForCausalLM",
}
"""For transformers; llama.cpp calls the first two architectures gpt2 and llama."""

_COMMON = {"SOFTMAX", "DENSE", "OUTPUT_GATE_NONE", "MHA", "GPT2_BIAS"}
_GPT2 = {*_COMMON, "POSITION_LEARNED", "NORM_LAYERNORM", "MLP_GELU"}
_LLAMA = {*_COMMON, "GQA", "POSITION_ROPE", "NORM_RMSNORM", "MLP_SWIGLU"}
_REMOTE = {*_GPT2, *_LLAMA, "MLP_RELU2", "MIXER_LINEAR", "MLA", "RA", "RA_CT"}
_REMOTE |= {"SOFTPICK", "SLIDING", "OUTPUT_GATE_ELEMENTWISE", "OUTPUT_GATE_HEADWISE"}
_REMOTE |= {"MLP_ATTN_GATE", "MLP_CROSS_TOKEN", "POSITION_NONE"}

CARRIES = {
    "hf": {"gpt2": {*_GPT2, "MLP_RELU2"}, "llama": _LLAMA, REMOTE: _REMOTE},
    "gguf": {"gpt2": _GPT2, "llama": _LLAMA},
}
"""Target -> architecture -> features it can express, the first that can is taken; a
missing bias is zero.
"""

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
    """The symbols, of those in WORDS or of a mixer, that say what this model computes."""
    attention, mlp = settings.attention, settings.mlp
    there = {}
    if attention is not None:
        there = {
            attention.projection.upper(): True,
            "RA": attention.ra,
            attention.normaliser.upper(): True,
            attention.pattern.upper(): True,
            "RA_CT": attention.ra_ct,
        }
    there |= dict.fromkeys(_mixers(settings), True) | {
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


def _mixers(settings: ModelSettings) -> dict[str, str]:
    """The symbols of mixers that are not attention, and where they are."""
    layers = list(enumerate(settings.layers))
    return {
        f"MIXER_{layer.name.upper()}": f"layer {i} has the mixer {layer.name}"
        for i, layer in reversed(layers)
        if layer.name != "attention"
    }


def architecture(settings: ModelSettings, target: str) -> str:
    """The architecture of `target` (hf, gguf) that computes this model.

    Raises ExportError that names every feature for which the nearest one has no
    place.
    """
    lacks = {
        name: [symbol for symbol in features(settings) if symbol not in carried]
        for name, carried in CARRIES[target].items()
    }
    nearest = min(lacks, key=lambda name: len(lacks[name]))
    if not lacks[nearest]:
        return nearest
    words = WORDS | _mixers(settings)
    lines = [f"  CONFIG_{symbol}: {words[symbol]}" for symbol in lacks[nearest]]
    where = CLASSES[nearest] if target == "hf" else f"llama.cpp's {nearest}"
    where += " (modeling_kablate.py)" if nearest == REMOTE else ""
    raise ExportError(
        f"FORMAT={target} cannot carry this model. {where}, the nearest architecture, "
        "has no place for\n" + "\n".join(lines) + "\n"
        "FORMAT=native keeps everything, for kablate alone to read"
    )
