"""FLOPs per token against what torch's own counter sees multiplied in a real pass.

The counter knows matrix products alone. The formula also has 6 per norm's weight and
bias, as N usually is, and counts what the mathematics multiplies, where a reference
may multiply more (a whole square for a band) or else (W_out W_mouth once a pass).
"""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt2.check.run import merge_study
from gpt2.check.studies import from_defconfig
from gpt2.check.subject import CONTEXT
from gpt2.model.costs import count
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from kconf.overrides import Overrides
from kconf.study import list_steps
from tests.conftest import ROOT

STUDIES = ("gpt2-ratio-ablation", "gpt2-attention-ablation", "llama-85m-ablation")
STEPS = [(name, step.number) for name in STUDIES for step in list_steps(ROOT, name)]
B = 2


def built(settings):
    """The model, computed by the reference, whose products torch can see."""
    settings = settings.with_attention(impl="reference")
    model = GPT(replace(settings, loss="plain"))
    initialise(model, 1)
    return model


def multiplied(model, backward=False):
    """FLOPs of a pass over B sequences, by torch's counter."""
    T = model.settings.block_size
    tokens = torch.randint(0, 97, (B, T), generator=torch.manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        loss = model(tokens, tokens)
        if backward:
            loss.backward()
    return counter.get_total_flops()


def forward_by_formula(model):
    """The same forward: a third of the formula's, vectors left out, B T tokens."""
    vectors = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    flops = count(model).flops_per_token - 6 * vectors
    assert flops % 3 == 0
    return B * model.settings.block_size * flops // 3


def reference_adds(model):
    """What the reference multiplies beyond the mathematics: keys outside the
    window, the transposed score of the whole square, zeros of the routing; r (W_out W_mouth)ᵀ for (r W_mouthᵀ) W_outᵀ.
    """
    s, T = model.settings, model.settings.block_size
    E, F, tokens = s.embed, s.mlp_dim, B * s.block_size
    more = 2 * tokens * E * (T - min(s.attention.window or T, T))
    if s.attention.ra:
        more += tokens * E * (T - min(s.attention.ra_band + 1, T))
    mouths = []
    if s.mlp.cross_token:
        mouths.append(s.cross_rank)
        if s.mlp.cross_token_mode == "topk":
            more += tokens * s.cross_rank * (T - min(s.mlp.cross_token_k, T))
    if s.mlp.latent_recip:
        mouths.append(s.latent)
    for r in mouths:
        more += E * F * r + tokens * r * (E - F)
    return 2 * s.depth * more


def small_model(tree, study, number, symbols):
    step = from_defconfig(ROOT, study).only(str(number))
    (case,) = merge_study(tree, step, Overrides(symbols))
    assert case.sound, case.verdict.found
    return case.subject.small.model


@pytest.mark.parametrize("study, number", STEPS)
def test_every_step(tree, study, number):
    model = built(small_model(tree, study, number, {}))
    assert multiplied(model) == forward_by_formula(model) + reference_adds(model)


LATENT = {"MLA": "y", "MLP_LATENT_RECIP": "y"}
CROSS = {"MLP_CROSS_TOKEN": "y"}
OPTIONS = {
    "tied": {**LATENT, "MLP_LATENT_TIED": "y"},
    "untied": {**LATENT, "MLP_LATENT_UNTIED": "y"},
    "scalars": {**LATENT, "MLP_LATENT_SCALAR": "y"},
    "shared latent": {"MLA": "y", "MLA_SHARED_LATENT": "y"},
    "shared up": {"MLA": "y", "MLA_SHARED_UP": "y"},
    "grouped": {"GQA": "y", "KV_HEADS": "4"},
    "mixing all": {**CROSS, "MLP_CROSS_TOKEN_NONE": "y"},
    "mixing by rms": {**CROSS, "MLP_CROSS_TOKEN_RMS": "y"},
    "mixing eight": {**CROSS, "MLP_CROSS_TOKEN_TOPK": "y"},
    "mixing with a gradient": {**CROSS, "MLP_CROSS_TOKEN_GRADIENT": "y"},
    "reciprocal": {"RA": "y", "RA_LEARNED": "y"},
    "gated scores": {"RA_CT": "y", "RA_CT_WEIGHTS": "y"},
    "output gate": {"OUTPUT_GATE_ELEMENTWISE": "y"},
    "headwise gate": {"OUTPUT_GATE_HEADWISE": "y"},
    "swiglu": {"MLP_SWIGLU": "y"},
    "softpick": {"SOFTPICK": "y"},
    "rotary": {"POSITION_ROPE": "y"},
    "no bias": {"GPT2_BIAS": "n"},
    "all of it": {**LATENT, **CROSS, "MLP_LATENT_TIED": "y", "RA": "y"}
    | {"MLP_ATTN_GATE": "y", "RA_CT": "y"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option(tree, option):
    settings = small_model(tree, STUDIES[0], 0, OPTIONS[option])
    model = built(settings)
    assert multiplied(model) == forward_by_formula(model) + reference_adds(model)


def test_a_band_as_long_as_the_sequence(tree):
    """Then the reference's whole square is the band."""
    settings = small_model(tree, STUDIES[0], 5, {})
    model = built(settings.with_attention(ra_band=CONTEXT - 1))
    assert reference_adds(model) == 0
    assert multiplied(model) == forward_by_formula(model)


@pytest.mark.parametrize("study, number", [(STUDIES[0], n) for n in (0, 2, 3, 8, 9)])
def test_backward_is_twice_forward(tree, study, number):
    """Where nothing is held constant."""
    model = built(small_model(tree, study, number, {}))
    assert multiplied(model, backward=True) == 3 * multiplied(model)


E, F, L, T, LAYERS, W, R = 768, 3072, 128, 1024, 12, 64, 96
BLOCKS = LAYERS - 1  # those that write to a next one
BY_HAND = {
    "tied": 6 * F * L * BLOCKS,
    "untied": 0,
    "scalars": 6 * F * L * (LAYERS + BLOCKS),
    "reciprocal": 6 * E * (W + 1) * LAYERS,
    "mixing all": 6 * R * T * LAYERS,
    "mixing by rms": 6 * R * T * LAYERS,
    "mixing eight": 6 * R * 8 * LAYERS,
    "gated scores": 0,
    "output gate": 0,
}


@pytest.mark.parametrize("option", BY_HAND)
def test_beyond_the_parameters_by_hand(tree, option):
    """At full size: 6 N + 12 layers E T + this."""
    step = from_defconfig(ROOT, STUDIES[0]).only("0")
    more = {"MLP_CROSS_TOKEN_RANK": str(R)} if "mixing" in option else {}
    (case,) = merge_study(tree, step, Overrides({**OPTIONS[option], **more}))
    with torch.device("meta"):
        facts = count(GPT(case.subject.settings.model))
    plain = 6 * (facts.parameters - T * E) + 12 * LAYERS * E * T
    assert facts.flops_per_token == plain + BY_HAND[option]
    halved = 6 * R * T * LAYERS if option in ("mixing all", "mixing by rms") else 0
    whole = 12 * LAYERS * E * T + halved
    assert facts.flops_per_token_causal == facts.flops_per_token - whole // 2
