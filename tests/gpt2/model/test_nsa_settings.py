"""Native sparse attention: what is refused, divided, counted and said."""

import math
from dataclasses import replace

import pytest
import torch

from gpt2.generation.generate import key_reads, reads_line
from gpt2.model.costs import count, meta_model, of_layer
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from kconf.overrides import Overrides
from kconf.syntax import ConfigError
from tests.gpt2.model.test_nsa import CASES, NSA, built, options_of
from tests.oracles.nsa import closed_forms

SHARED = {"NSA_SHARED_KV": "y"}


@pytest.mark.parametrize(
    "symbols, why",
    [
        ({"NSA_LENGTH": "24"}, "NSA_LENGTH=24: is not a multiple of .*STRIDE=16"),
        ({"NSA_BLOCK": "40"}, "NSA_BLOCK=40: is not a multiple of .*STRIDE=16"),
        ({"NSA_LENGTH": "128"}, "NSA_LENGTH=128: exceeds CONFIG_NSA_BLOCK=64"),
        ({"NSA_TOP": "2"}, "NSA_TOP=2: is less than the 3 blocks"),
        ({"LENGTH_DIVISOR": "32"}, "NSA_STRIDE=16: is not a multiple of .*DIVISOR=32"),
        (
            {"WIDTH_DIVISOR": "2", "NSA_PHI_MLP": "y", "NSA_PHI_RANK": "3"},
            "NSA_PHI_RANK=3: is not a multiple of CONFIG_WIDTH_DIVISOR=2",
        ),
        ({"KV_HEADS": "3"}, "KV_HEADS=3: does not divide CONFIG_GPT2_HEADS=4"),
        ({"MIXER_LAYERS": "linear"}, "MIXER_NSA=y: has options that act on nsa"),
        (
            {"MIXER_LAYERS": "nsa attention", "MLP_CROSS_TOKEN": "y"},
            "routes by the probabilities .*nsa has none",
        ),
        ({"MIXER_LAYERS": "nsa", "RA": "y"}, "acts on attention, which is none of nsa"),
        ({"MIXER_LAYERS": "nsa", "SOFTPICK": "y"}, "acts on attention"),
        ({"MIXER_LAYERS": "nsa", "RA_CT": "y"}, "acts on attention"),
        ({"MIXER_LAYERS": "nsa", "MLA": "y"}, "acts on attention"),
    ],
)
def test_what_settings_refuse(small, symbols, why):
    with pytest.raises(SettingsError, match=why):
        small(**{"MIXER_NSA": "y", "KV_HEADS": "2", "GPT2_LAYERS": "2", **symbols})


def test_layers_of_it_need_its_options(small):
    with pytest.raises(SettingsError, match="nsa needs CONFIG_MIXER_NSA=y"):
        small(MIXER_LAYERS="nsa attention")


REFUSED = {
    "sel without cmp": {"NSA_BRANCHES_SEL": "y"},
    "sel and win": {"NSA_BRANCHES_SEL_WIN": "y"},
    "phi without cmp": {**SHARED, "NSA_BRANCHES_SEL": "y", "NSA_PHI_CONV": "y"},
    "mlp without cmp": {**SHARED, "NSA_BRANCHES_SEL_WIN": "y", "NSA_PHI_MLP": "y"},
    "a gate of one": {"NSA_BRANCHES_CMP": "y", "NSA_GATE_SIGMOID": "y"},
    "shares of one": {"NSA_BRANCHES_WIN": "y", "NSA_GATE_FIXED": "y"},
    "a branch that is off": {"NSA_BRANCHES_CMP": "y", "NSA_FORCE_BRANCH_WIN": "y"},
    "heads that do not choose": {"NSA_BRANCHES_WIN": "y", "NSA_CHOICE_PER_HEAD": "y"},
    "no rotation": {"NSA_PHI_ROPE_NONE": "y"},
    "no queries": {"RA": "y"},
    "no normaliser": {"SOFTPICK": "y"},
    "no latent": {"MLA": "y"},
    "no statistics": {"RA_CT": "y"},
    "no routing": {"MLP_CROSS_TOKEN": "y"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_kconfig_refuses(tree, case):
    with pytest.raises(ConfigError):
        tree.resolve([Overrides({"MIXER_NSA": "y", **REFUSED[case]})])


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"subset": "sel"}, "NSA_BRANCHES_SEL=y: needs CONFIG_NSA_SHARED_KV: without"),
        ({"subset": "sel_win"}, "NSA_BRANCHES_SEL_WIN=y: needs CONFIG_NSA_SHARED_KV"),
        (
            {"subset": "sel", "shared_kv": True, "phi": "conv"},
            "NSA_PHI_CONV=y: has no gradient under CONFIG_NSA_BRANCHES_SEL",
        ),
        ({"subset": "win", "phi": "mlp"}, "NSA_PHI_MLP=y: has no gradient"),
        ({"subset": "cmp", "gate": "sigmoid"}, "NSA_GATE_SIGMOID=y: has nothing to"),
        ({"subset": "win", "gate": "fixed"}, "NSA_GATE_FIXED=y: has nothing to weigh"),
        ({"subset": "cmp", "force": "win"}, "NSA_FORCE_BRANCH_WIN=y: is no branch of"),
        ({"subset": "win", "per_head": True}, "PER_HEAD=y: has nothing to choose"),
    ],
)
def test_settings_refuse_the_same_with_the_reason(small, fields, why):
    asked = small(**NSA).model.of("nsa")
    with pytest.raises(SettingsError, match=why):
        replace(asked, **fields)


def test_lengths_are_divided_and_the_number_of_blocks_is_not(small):
    wide = {"NSA_LENGTH": "32", "NSA_STRIDE": "16", "NSA_BLOCK": "64", "NSA_TOP": "8"}
    divided = small(**{**NSA, **wide, "NSA_WINDOW": "256", "LENGTH_DIVISOR": "16"})
    model = GPT(divided.model)
    assert model.h[0].attn.spec[:5] == (2, 1, 4, 8, 16)
    assert [of_layer(model, 0)[f"nsa_{n}"] for n in ("length", "top")] == [2, 8]


@pytest.mark.parametrize("case", CASES)
def test_what_it_costs(small, case):
    """Parameters, multiply-adds and cache by the closed forms."""
    layer, model = built(small, case)
    options, T = options_of(layer, model), 32
    made = layer.projection
    phi = sum(p.numel() for p in made.phi.parameters())
    gates = 0 if layer.gate is None else sum(p.numel() for p in layer.gate.parameters())
    assert phi == closed_forms.phi_parameters(options)
    assert gates == closed_forms.gate_parameters(options)
    qkvo = closed_forms.projection_parameters(options)
    assert qkvo == sum(
        p.numel()
        for n, p in layer.named_parameters()
        if p.dim() > 1 and "phi" not in n and "gate" not in n
    )
    attended = 6 * layer.products(T).causal
    repeated = made.products() * (options.G * layer.spec.compressed(T) / T - 1)
    if options.gate == "softmax" and layer.gate is not None:
        weights = layer.gate.inner.weight, layer.gate.outer.weight
        repeated += (options.G - 1) * sum(w.numel() for w in weights)
    wanted = closed_forms.attention_flops(options, T) + 6 * repeated
    assert attended == pytest.approx(wanted, rel=1e-12)
    far, grows = 1 << 20, closed_forms.cache_per_token(options)
    held = layer.cache_size(far).total
    assert grows * far - grows * options.l <= held
    assert held <= grows * far + closed_forms.cache_constant(options)


def test_a_third_of_the_heads_cost_what_attention_does(resolve):
    """4 E² = 2,359,296 matrix weights in q, three pairs and o; 544 values per token."""
    shape = {"GPT2_SIZE_CUSTOM": "y", "GPT2_WIDTH": "768", "GPT2_LAYERS": "1"}
    sparse = {"MIXER_NSA": "y", "NSA_GATE_FIXED": "y", "KV_HEADS": "4"}
    model = meta_model(run_settings(resolve({**shape, **sparse})).model)
    facts = count(model)
    weights = sum(m.data.numel() for m in model.h[0].attn.matrices(""))
    assert weights == 2_359_296 and facts.attn_mlp_ratio == 2.0
    assert (facts.cache_per_token_layer, facts.kv_heads) == (544, 4)
    assert facts.cache_constant_layer <= 278_016
    assert facts.mixers == "nsa"


def test_a_decode_says_what_it_has_read(small):
    """The mean over the tokens read, beside dense attention's."""
    symbols = {**NSA, "GPT2_LAYERS": "3", "MIXER_LAYERS": "nsa attention"}
    model = GPT(small(**symbols).model)
    initialise(model, 1)
    _, cache = model.decode(torch.zeros(1, 20, dtype=torch.long))
    reads, layers = key_reads(model.eval(), cache)
    sums = model.h[0].attn.spec.all_reads(20)
    assert reads == {name: pytest.approx(each / 20) for name, each in sums.items()}
    assert layers == 2
    (line,) = reads_line(model, cache)
    total = sum(sums.values()) / 20
    assert f"mean of 2 layers: cmp {sums['cmp'] / 20:.1f} + sel" in line
    assert line.endswith(f"= {total:.1f}; dense attention reads 10.5")
    assert reads_line(model, None) == []
    assert math.isclose(sum(reads.values()), total)
