"""Counts come from the built model and agree with the formulas."""

from dataclasses import replace

import pytest
import torch

from gpt2.model import costs
from gpt2.model.costs import count, meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import run_settings
from kconf.dotconfig import write
from kconf.overrides import from_environment
from kconf.strict import DotConfig
from tests.conftest import ROOT, SMALL


def by_hand(E, F, layers, T, V, L=None):
    """GPT-2's parameters: (all, attention matrices, MLP matrices) per formula."""
    attention = 4 * E * E if L is None else 2 * E * E + 4 * E * L
    biases = 4 * E if L is None else 2 * E
    block = attention + biases + 2 * E * F + F + E + 4 * E
    return layers * block + (V + T) * E + 2 * E, attention, 2 * E * F


@pytest.mark.parametrize(
    "symbols, total, ratio, cache",
    [
        ({}, 124_475_904, "2.000", 1536),
        ({"MLP_DIM": "3840"}, 138_640_896, "2.500", 1536),
        ({"MLA": "y"}, 115_020_288, "3.000", 256),
        ({"MLA": "y", "MLP_DIM": "2560"}, 105_576_960, "2.500", 256),
    ],
)
def test_the_ratio_table(resolve, symbols, total, ratio, cache):
    settings = run_settings(resolve(GPT2_VOCAB_SIZE="50257", **symbols)).model
    facts = count(meta_model(settings))
    assert facts.parameters == total
    assert f"{facts.attn_mlp_ratio:.3f}" == f"{facts.network_ratio:.3f}" == ratio
    assert facts.cache_per_token_layer == cache
    assert facts.flops_per_token == 6 * (total - 1024 * 768) + 12 * 12 * 768 * 1024
    assert facts.flops_per_token - facts.flops_per_token_causal == 6 * 12 * 768 * 1024


@pytest.mark.parametrize("base", ["gpt2-124m", "gpt2-ratio-ablation"])
@pytest.mark.parametrize(
    "symbols, total",
    [
        ({"GPT2_SIZE_350M": "y"}, 354_871_296),
        (
            {"GPT2_SIZE_774M": "y"},
            774_090_240,
        ),  # GPT-2 large, and 47 rows up to 64 · 786
        ({"GPT2_SIZE_774M": "y", "MLP_DIM": "3072"}, 585_272_832),
        ({"TOKENIZER_BYTE": "y"}, 124_475_904 - (50_304 - 320) * 768),
    ],
)
def test_a_size_over_another_ones_config(tree, tmp_path, base, symbols, total):
    """CONFIG_GPT2_SIZE_774M=y make over the .config of 124M: the width follows."""
    path = tmp_path / ".config"
    write(path, tree, tree.resolve([ROOT / "defconfigs" / base]))
    changed = from_environment({f"CONFIG_{name}": raw for name, raw in symbols.items()})
    values = tree.resolve([DotConfig(path), changed]).values
    assert count(meta_model(run_settings(values).model)).parameters == total


@pytest.mark.parametrize("latent", [None, 8])
def test_counts_by_hand(small, latent):
    symbols = {} if latent is None else {"MLA": "y", "MLA_LATENT": str(latent)}
    facts = count(meta_model(small(**symbols).model))
    total, attention, mlp = by_hand(32, 64, 2, 16, 320, latent)
    assert facts.parameters == total
    assert facts.attn_mlp_ratio == pytest.approx(mlp / attention)
    assert (facts.mlp_dim, facts.latent, facts.layers) == (64, latent, 2)


def test_the_divisor_keeps_the_ratios(small):
    wide = small(GPT2_WIDTH="128", MLP_DIM="320", MLA="y", MLA_LATENT="32").model
    facts, divided = (
        count(meta_model(m)) for m in (wide, replace(wide, width_divisor=8))
    )
    assert divided.attn_mlp_ratio == facts.attn_mlp_ratio
    assert divided.heads == facts.heads
    assert (divided.width, divided.mlp_dim, divided.latent) == (16, 40, 4)


def test_interior_blocks_are_counted_once(resolve):
    """The estimate of 6 layers from 2 and 3 is that of 6, with every mechanism."""
    mechanisms = {"MLP_ATTN_GATE": "y", "MLP_CROSS_TOKEN": "y", "RA": "y"}
    for extra in ({}, mechanisms):
        model = run_settings(resolve(SMALL, GPT2_LAYERS="6", **extra)).model
        whole = costs._held(model, "bf16", "bf16", 2)
        assert costs._forward_bytes(model, "bf16", "bf16", 2) == whole > 0
