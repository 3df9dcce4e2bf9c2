"""The second implementation agrees on every option; initial values are shared."""

import pytest

from gpt2.check.proofs.documents import documents
from gpt2.check.proofs.formulas import formulas
from gpt2.check.proofs.initial import initial_values, require_shared
from gpt2.check.subject import Broken
from gpt2.model.initial import Constant
from gpt2.model.mixers.attention import cores
from gpt2.model.mixers.attention.gates import CrossTokenGate
from gpt2.model.mlp.cross_token import CrossToken
from kernels.attention import reciprocal
from tests.gpt2.model.test_mechanisms import CASES, LATENT, MLP_CASES

RA, CROSS, CT = {"RA": "y"}, {"MLP_CROSS_TOKEN": "y"}, {"RA_CT": "y"}
NSA = {"MIXER_NSA": "y", "NSA_TOP": "3", "NSA_WINDOW": "128"}
ROPE = {"POSITION_ROPE": "y"}
SAME_WHEN_SMALL = ("ra-wide-band", "ra-band-0")
OPTIONS = {
    **{name: case for name, case in CASES.items() if name not in SAME_WHEN_SMALL},
    **{f"mlp-{name}": case for name, case in MLP_CASES.items()},
    "mla-shared": {**LATENT, "MLA_SHARED_LATENT": "y", "MLA_SHARED_UP": "y"},
    "cross-none-gradient": {
        **MLP_CASES["cross-none"],
        "MLP_CROSS_TOKEN_GRADIENT": "y",
    },
    "ct-rms-detach": {**CT, "RA_CT_RMS": "y", "RA_CT_DETACH": "y"},
    "ct-entropy-sliding": {**CT, "SLIDING": "y", "RA_CT_ENTROPY": "y"},
    "nsa": {**NSA, "MLP_ATTN_GATE": "y", "OUTPUT_GATE_HEADWISE": "y"},
    "nsa-rope-mlp": {**NSA, **ROPE, "NSA_PHI_MLP": "y", "NSA_SHARED_KV": "y"},
    "nsa-conv": {**NSA, **ROPE, "NSA_PHI_CONV": "y", "NSA_GATE_SIGMOID": "y"},
    "nsa-sel-win": {
        **{**NSA, **ROPE, "NSA_SHARED_KV": "y", "NSA_BRANCHES_SEL_WIN": "y"},
        **{"NSA_CHOICE_PER_HEAD": "y", "NSA_PHI_ROPE_NONE": "y"},
    },
    "nsa-free": {**NSA, "NSA_FORCED_BLOCKS": "n", "NSA_BRANCHES_CMP_SEL": "y"},
    "gla": {"MIXER_GLA": "y", "MLP_ATTN_GATE": "y"},
    "deltanet": {"MIXER_DELTANET": "y", "OUTPUT_GATE_HEADWISE": "y", "GPT2_BIAS": "n"},
    "retnet-rope": {
        **{"MIXER_RETNET": "y", "OUTPUT_GATE_HEADWISE": "y", **ROPE},
        **{"ROPE_BASE": "50", "GPT2_BIAS": "n", "MLP_ATTN_GATE": "y"},
    },
    "mamba2-none": {
        **{"MIXER_MAMBA2": "y", "MLP_ATTN_GATE": "y", "POSITION_NONE": "y"},
        **{"NORM_RMSNORM": "y", "MIXER_LAYERS": "mamba2 attention", "MLA": "y"},
    },
    "gdn-attention": {"MIXER_LAYERS": "gdn attention", "OUTPUT_GATE_ELEMENTWISE": "y"},
    "relu2-rms": {"MLP_RELU2": "y", "NORM_RMSNORM": "y", "GPT2_BIAS": "n"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_its_formula(subject, option):
    """Alone, and as one of several documents; initial values are its own."""
    chosen = subject(**OPTIONS[option])
    formulas(chosen)
    documents(chosen)
    initial_values(chosen)


def test_a_band_one_too_narrow(subject, monkeypatch):
    monkeypatch.setattr(cores, "reciprocal", lambda *a: reciprocal(*a[:-1], a[-1] - 1))
    with pytest.raises(Broken, match="logits differ from the formulas"):
        formulas(subject(**RA))


def test_a_gradient_through_what_is_constant(subject, monkeypatch):
    """Logits and loss are the same with it."""
    plain = CrossToken.__init__

    def flowing(self, settings):
        plain(self, settings)
        self.gradient = True

    monkeypatch.setattr(CrossToken, "__init__", flowing)
    with pytest.raises(Broken, match="gradient along a random direction"):
        formulas(subject(**CROSS))


def test_a_gate_that_starts_elsewhere(subject, monkeypatch):
    def closed(self, prefix):
        yield Constant(f"{prefix}.scale_H", self.scale_H, 1.0)
        yield Constant(f"{prefix}.shift_H", self.shift_H, 0.0)

    monkeypatch.setattr(CrossTokenGate, "initial_laws", closed)
    with pytest.raises(Broken, match="h.0.attn.ra_ct.shift_H does not start at 2"):
        initial_values(subject(**CT))


def test_steps_that_start_apart():
    seen = {}
    require_shared("00-a", {("", "wte", 2): "one"}, seen)
    require_shared("01-b", {("", "wte", 3): "two", ("x", "wte", 2): "two"}, seen)
    with pytest.raises(Broken, match="wte has other initial values than in 00-a"):
        require_shared("02-c", {("", "wte", 2): "two"}, seen)
