"""Which models have a home elsewhere, and what the refusals name."""

import dataclasses
import re

import pytest

from gpt2.export.architectures import CARRIES, CLASSES, REMOTE, WORDS
from gpt2.export.architectures import architecture, features
from gpt2.export.bundle import ExportError
from gpt2.export.onnx_graph import require_traceable
from gpt2.settings.run import ModelSettings, run_settings
from kconf.bind import symbols_of
from tests.gpt2.parcels import ARCHITECTURES, HOMES, STEPS, values

# What the steps' own lines say of the network; a width or a rank is no feature.
NUMBERS = {"MLP_DIM", "MLP_ATTN_GATE_RANK", "RA_CT_WEIGHTS", "RA_CT_ENTROPY"}
# Symbols of the network that no architecture needs to know: shapes, options of a
# mechanism that is named itself, and what computes the same by another way.
SHAPES = {"GPT2_LAYERS", "GPT2_WIDTH", "GPT2_HEADS", "GPT2_BLOCK_SIZE"}
SHAPES |= {"GPT2_VOCAB_SIZE", "WIDTH_DIVISOR", "MLP_DIM", "KV_HEADS", "ROPE_BASE"}
SHAPES |= {"GPT2_DROPOUT", "LOSS_AUTO", "LOSS_PLAIN", "LOSS_CHUNKED", "WINDOW"}
SHAPES |= {"LENGTH_DIVISOR"}
SHAPES |= {"DOCUMENTS_APART"}  # of batches: a text of one document is computed alike
OPTIONS = ("RA_CT_", "RA_", "MLA_", "MLP_ATTN_GATE_", "MLP_CROSS_TOKEN_")
OPTIONS += ("MLP_LATENT_", "SOFTPICK_", "GPT2_SIZE_", "ATTENTION_IMPL_")
OPTIONS += ("MIXER_", "NSA_", "MAMBA2_", "GLA_")  # of mixers, named as a whole


def settings(name):
    return run_settings(values(name)).model


def refused(model, target="hf"):
    """The symbols that the refusal names."""
    with pytest.raises(ExportError, match=f"FORMAT={target} cannot carry") as error:
        architecture(model, target)
    return set(re.findall(r"^  CONFIG_(\w+): \S", str(error.value), re.M))


@pytest.mark.parametrize("name", HOMES)
@pytest.mark.parametrize("target", CARRIES)
def test_homes(name, target):
    assert architecture(settings(name), target) == HOMES[name]


@pytest.mark.parametrize("target", CARRIES)
@pytest.mark.parametrize("name", STEPS["gpt2-ratio-ablation"])
def test_a_ratio_step_names_each_mechanism_of_its_fragment(name, target):
    """By the fragment's own lines, not by the settings that come of them."""
    step = STEPS["gpt2-ratio-ablation"][name]
    model = settings(f"gpt2-ratio-ablation/{step.id}")
    mechanisms = {line.symbol for line in step.lines} - NUMBERS
    if step.number in (0, 1, 2):
        assert architecture(model, target) == "gpt2"
    elif target == "hf":
        assert architecture(model, target) == REMOTE
    else:
        assert refused(model, target) == mechanisms


@pytest.mark.parametrize(
    "name, lacks",
    [
        ("gpt2-attention-ablation/02-output-gate", {"OUTPUT_GATE_ELEMENTWISE"}),
        ("gpt2-attention-ablation/06-softpick", {"SOFTPICK"}),
        ("gpt2-attention-ablation/07-sliding", {"SLIDING"}),
        ("llama-85m-ablation/02-gelu", {"MLP_GELU"}),
        ("llama-85m-ablation/04-learned-positions", {"POSITION_LEARNED"}),
        ("llama-85m-ablation/05-layernorm", {"NORM_LAYERNORM"}),
    ],
)
def test_other_refusals(name, lacks):
    assert refused(settings(name), "gguf") == lacks
    assert architecture(settings(name), "hf") == REMOTE


def test_a_model_without_positions_leaves_by_its_own_file_alone(small):
    model = small(POSITION_NONE="y").model
    assert architecture(model, "hf") == REMOTE
    assert refused(model, "gguf") == {"POSITION_NONE"}


def test_squared_relu_is_known_to_transformers_alone(small):
    model = small(MLP_RELU2="y").model
    assert architecture(model, "hf") == "gpt2"
    assert refused(model, "gguf") == {"MLP_RELU2"}


def test_the_refusal_says_where_and_what_instead(small):
    model = small(MLA="y", MLP_LATENT_RECIP="y").model
    with pytest.raises(ExportError, match=CLASSES[REMOTE]) as error:
        architecture(model, "hf")
    assert "CONFIG_MLP_LATENT_RECIP: the reciprocal latent" in str(error.value)
    assert "modeling_kablate.py" in str(error.value)
    assert "FORMAT=native keeps everything" in str(error.value)


def test_every_symbol_of_the_network_is_decided():
    """A new mechanism must say here whether anything else can compute it."""
    for symbol in symbols_of(ModelSettings):
        known = symbol in WORDS or symbol in SHAPES or symbol.startswith(OPTIONS)
        assert (
            known
        ), f"CONFIG_{symbol}: is it a feature of gpt2/export/architectures.py?"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_feature_has_words(name):
    """Of models of attention; another mixer is named as that."""
    model = settings(name)
    others = set(model.pattern) - {"attention"}
    wanted = {f"MIXER_{mixer.upper()}" for mixer in others}
    assert set(features(model)) - set(WORDS) == wanted
    if others:
        with pytest.raises(ExportError, match="has the mixer (?!attention)"):
            architecture(model, "gguf")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_is_a_graph_or_refused_by_its_mixer(name):
    """FORMAT=onnx traces what attention, MLP and the linear mixer compute."""
    model = settings(name)
    if {layer.name for layer in model.layers} <= {"attention", "linear"}:
        return require_traceable(model)
    with pytest.raises(ExportError, match="FORMAT=onnx cannot carry .* has the mixer "):
        require_traceable(model)


def test_every_choice_is_named_as_its_symbol():
    """features() makes symbols of the settings' values; each must be one."""
    values_of = {
        ("attention", "projection"): ("mha", "gqa", "mla"),
        ("attention", "normaliser"): ("softmax", "softpick"),
        ("attention", "pattern"): ("dense", "sliding"),
        ("mlp", "kind"): ("gelu", "swiglu", "relu2"),
    }
    model = settings("gpt2-124m")
    for (part, field), choices in values_of.items():
        for choice in choices:
            changed = dataclasses.replace(getattr(model, part), **{field: choice})
            found = features(dataclasses.replace(model, **{part: changed}))
            assert set(found) <= set(WORDS) & set(symbols_of(ModelSettings))
    for choice in ("none", "elementwise", "headwise"):
        found = features(dataclasses.replace(model, output_gate=choice))
        assert set(found) <= set(WORDS) & set(symbols_of(ModelSettings))
