"""Layers with different mixers: what they are, cost, refuse, and what is proven."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gpt2.check.proofs import claims
from gpt2.check.subject import Broken, Subject
from gpt2.export.architectures import CARRIES, architecture
from gpt2.export.bundle import ExportError
from gpt2.model.costs import ENDS, _forward_bytes, _held, count, of_layer
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.statistics import attention_stats
from gpt2.settings.model import MIXERS
from kconf.bind import SettingsError

HYBRID = {"MIXER_LAYERS": "linear linear linear attention"}
TURNED = ["linear", "linear", "linear", "attention"]


def names(settings):
    return [layer.name for layer in settings.model.layers]


def test_the_pattern_is_repeated_down_the_depth(small):
    assert names(small(GPT2_LAYERS="9", **HYBRID)) == [*TURNED, *TURNED, "linear"]
    assert names(small(GPT2_LAYERS="2", MIXER_LINEAR="y")) == ["linear"] * 2
    assert names(small(GPT2_LAYERS="2")) == ["attention"] * 2
    built = GPT(small(GPT2_LAYERS="5", **HYBRID).model)
    assert [block.attn.kind for block in built.h] == [*TURNED, "linear"]


@pytest.mark.parametrize(
    "symbols, why",
    [
        (
            {"MIXER_LAYERS": "linear atention"},
            "'atention' is no mixer: attention, deltanet",
        ),
        ({"GPT2_LAYERS": "3", **HYBRID}, "needs CONFIG_GPT2_LAYERS of at least 4"),
        (
            {**HYBRID, "MLP_CROSS_TOKEN": "y"},
            "routes by the probabilities .*linear has none",
        ),
        (
            {**HYBRID, "MLA": "y", "MLA_LATENT": "8", "MLP_LATENT_RECIP": "y"},
            "needs CONFIG_MLA: a latent; linear has none",
        ),
        (
            {"MIXER_LAYERS": "linear", "RA": "y"},
            "CONFIG_RA=y: acts on attention, which is none of linear",
        ),
        (
            {"MIXER_LAYERS": "linear", "SOFTPICK": "y"},
            "CONFIG_SOFTPICK=y: acts on attention",
        ),
        ({"MIXER_LINEAR": "y", "POSITION_ROPE": "y"}, "rotates .* linear has none"),
        (
            {"MIXER_LAYERS": "linear", "LOG_ATTENTION_STATS": "y"},
            "no layer has attention heads: all are linear",
        ),
    ],
)
def test_what_a_layer_does_not_offer_is_refused(small, symbols, why):
    with pytest.raises(SettingsError, match=why):
        small(**{"GPT2_LAYERS": "4", **symbols})


@pytest.mark.parametrize(
    "symbol", ["RA", "SOFTPICK", "MLP_CROSS_TOKEN", "LOG_ATTENTION_STATS"]
)
def test_kconfig_hides_what_no_layer_can_have(tree, symbol):
    from kconf.overrides import Overrides

    assert symbol in tree.resolve([]).visible
    assert symbol not in tree.resolve([Overrides({"MIXER_LINEAR": "y"})]).visible
    assert symbol in tree.resolve([Overrides(HYBRID)]).visible


def test_facts_of_layers_that_differ(small):
    """Sums over the layers; what is of one layer is asked of one."""
    window = {"SLIDING": "y", "WINDOW": "5", "RA": "y", "RA_BAND": "2"}
    model = GPT(small(GPT2_LAYERS="8", **HYBRID, **window).model)
    facts, D = count(model), model.settings.head_width
    E = facts.width
    assert facts.mixers == "3 linear, 1 attention, 3 linear, 1 attention"
    assert facts.attn_mlp_ratio is facts.window is facts.cache_per_token_layer is None
    assert facts.heads == model.settings.heads
    assert facts.cache_per_token == 2 * 2 * E
    assert facts.cache_constant == 6 * E * (D + 1) + 2 * 2 * E
    assert of_layer(model, 3)["window"] == 5 and of_layer(model, 2)["window"] is None
    plain = 6 * (facts.parameters - model.wpe.weight.numel())
    per_token = 6 * 2 * E * D + 2 * (2 * E * 5 + 3 * E)
    assert facts.flops_per_token == plain + 6 * per_token


def expect(small, **claimed):
    run = small(GPT2_LAYERS="4", **HYBRID)
    claims.expectations(Subject("01", run, run, claimed))


def test_expectations_of_a_layer(small):
    expect(small, **{"mixer@0": "linear", "mixer@3": "attention", "kv_heads@3": "4"})
    for key, why in {
        "mixer@4": "layers are 0 to 3",
        "mixer@x": "layers are 0 to 3",
        "depth@1": "is none of",
        "window": "is not the same in all layers",
        "attn_mlp_ratio": "is not the same in all layers",
    }.items():
        with pytest.raises(Broken, match=why):
            expect(small, **{key: "1"})
    with pytest.raises(Broken, match="mixer@0=attention, the model has linear"):
        expect(small, **{"mixer@0": "attention"})


@pytest.mark.parametrize(
    "pattern, depth",
    [("", 3), ("linear", 3), ("linear attention", 3), ("linear linear attention", 4)]
    + [(HYBRID["MIXER_LAYERS"], 5), ("attention linear linear linear", 5)],
)
def test_the_small_model_holds_every_pair_of_neighbours(small, pattern, depth):
    run = small(GPT2_LAYERS="12", MIXER_LAYERS=pattern)
    proven = Subject("", run, run, {}).small.model
    assert proven.depth == depth
    pairs = {(a.name, b.name) for a, b in zip(run.model.layers, run.model.layers[1:])}
    assert {(a.name, b.name) for a, b in zip(proven.layers, proven.layers[1:])} >= pairs


@pytest.mark.parametrize("pattern", ["", "linear attention", HYBRID["MIXER_LAYERS"]])
@pytest.mark.parametrize("depth", [8, 11])
def test_the_memory_of_deep_models_is_that_of_all_their_layers(small, pattern, depth):
    model = small(GPT2_LAYERS=str(depth), MIXER_LAYERS=pattern).model
    assert len(model.pattern) + ENDS < depth
    estimated = _forward_bytes(model, "fp32", "fp32", 2)
    assert estimated == _held(model, "fp32", "fp32", 2)


@pytest.mark.parametrize("layers", [HYBRID, {"MIXER_LINEAR": "y"}])
def test_an_exporter_refuses_a_hybrid(small, layers):
    """Though its attention is what the architecture has."""
    settings = small(GPT2_LAYERS="4", **layers).model
    with pytest.raises(ExportError, match="layer 0 has the mixer linear"):
        architecture(settings, "gguf")
    assert architecture(settings, "hf") == "kablate"


@pytest.mark.parametrize("target", CARRIES)
@pytest.mark.parametrize(
    "kind", [m for m in MIXERS if m not in ("attention", "linear")]
)
def test_an_exporter_refuses_a_mixer_that_is_not_known(small, kind, target):
    """By its name and the first layer that has it, behind layers that are known too."""
    own = {f"MIXER_{kind.upper()}": "y"}
    with pytest.raises(ExportError, match=f"layer 0 has the mixer {kind}"):
        architecture(small(GPT2_LAYERS="4", **own).model, target)
    mixed = small(GPT2_LAYERS="4", **own, MIXER_LAYERS=f"attention linear {kind}").model
    with pytest.raises(ExportError, match=f"layer 2 has the mixer {kind}"):
        architecture(mixed, target)


def test_statistics_of_a_recurrence_beside_attention(small):
    """By layer, those of each kind: of heads as lists, of the layer by bin."""
    layers = {"GPT2_LAYERS": "2", "MIXER_LAYERS": "gdn attention"}
    model = GPT(small(MIXER_GDN="y", **layers).model)
    initialise(model, 1)
    found = attention_stats(model, np.arange(2 * 9).reshape(2, 9), "cpu")
    heads, bins = model.settings.heads, 16
    for name, length in {
        "state_norm": heads,
        "effective_span": heads,
        "half_life": bins,
    }.items():
        assert len(found[name][0]) == length and found[name][1] is None, name
    assert all(1 <= span <= 8 for span in found["effective_span"][0])
    assert found["entropy"][0] is None and len(found["entropy"][1]) == heads


def test_statistics_of_layers_that_have_none(small):
    model = GPT(small(GPT2_LAYERS="4", **HYBRID).model)
    initialise(model, 1)
    windows = np.arange(2 * 9).reshape(2, 9)
    found = attention_stats(model, windows, "cpu")
    assert [each is None for each in found["entropy"]] == [True] * 3 + [False]
    assert all(isinstance(each, float) for each in found["kurtosis"])


@pytest.mark.parametrize(
    "kind", ["linear", "retnet", "mamba2", "gla", "deltanet", "gdn"]
)
def test_a_hybrid_trains(small, kind):
    """Every parameter gets a gradient, in every layer."""
    own = {f"MIXER_{kind.upper()}": "y"}
    turn = f"{kind} {kind} {kind} attention"
    model = GPT(small(GPT2_LAYERS="5", MIXER_LAYERS=turn, **own).model)
    initialise(model, 1)
    tokens = torch.randint(0, 257, (2, 16))
    model(tokens, tokens).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_the_depth_is_one_symbol(small):
    settings = small(GPT2_LAYERS="4", **HYBRID).model
    with pytest.raises(SettingsError, match="at least 4"):
        replace(settings, depth=3)
