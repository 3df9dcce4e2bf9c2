"""Initial values depend on (seed, salt, name, shape) and on nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from gpt2.model.gpt import GPT
from gpt2.model.initial import draw, initialise

PINNED = [1.539194107055664, 1.1691499948501587, 0.2493935227394104, 0.249104842543602]


def built(settings, seed=1, salt=""):
    model = GPT(settings.model)
    digest = initialise(model, seed, salt)
    return {m.name: m.data.clone() for m in model.matrices()}, digest


def test_a_wider_mlp_begins_with_the_narrower_one(small):
    narrow, _ = built(small(MLP_DIM="64"))
    wide, _ = built(small(MLP_DIM="80"))
    assert torch.equal(wide["h.1.mlp.in"][:64], narrow["h.1.mlp.in"])
    assert torch.equal(wide["h.1.mlp.out"][:, :64], narrow["h.1.mlp.out"])
    others = [n for n in narrow if ".mlp." not in n]
    assert len(others) == 2 + 2 * 4
    assert all(torch.equal(narrow[n], wide[n]) for n in others)


def test_mla_shares_q_and_o_with_mha(small):
    mha, _ = built(small())
    mla, _ = built(small(MLA="y", MLA_LATENT="8"))
    for name in ("h.0.attn.q", "h.0.attn.o", "h.1.mlp.in", "wte", "wpe"):
        assert torch.equal(mha[name], mla[name]), name
    assert set(mla) - set(mha) == {
        f"h.{i}.attn.{n}" for i in (0, 1) for n in ("k_down", "v_down", "k_up", "v_up")
    }


def test_standard_deviations(small):
    found, _ = built(small(GPT2_WIDTH="256", MLP_DIM="512", MLA="y", MLA_LATENT="64"))
    wanted = {
        "wte": 0.02,
        "h.0.attn.q": 0.02,
        "h.0.attn.o": 0.02 / 2,
        "h.0.attn.k_down": 0.02,
        "h.0.attn.k_up": 1 / 8,
        "h.1.attn.v_up": 1 / 8,
        "h.0.mlp.in": 0.02,
        "h.1.mlp.out": 0.02 / 2,
    }
    for name, std in wanted.items():
        assert found[name].std().item() == pytest.approx(std, rel=0.03), name


def test_seed_salt_and_name_each_change_the_values(small):
    base, first = built(small())
    again, second = built(small())
    assert first == second
    digests = {first}
    for seed, salt in ((2, ""), (1, "aa")):
        other, digest = built(small(), seed, salt)
        digests.add(digest)
        assert not torch.equal(base["h.0.attn.q"], other["h.0.attn.q"])
    assert len(digests) == 3
    assert not torch.equal(base["h.0.attn.q"], base["h.1.attn.q"])


def test_the_stream_is_pinned():
    """The first numbers of a stream, so that no release changes them unseen."""
    values = draw(1, "", "wte", (2, 2))
    assert values.dtype == np.float32
    assert values.ravel().tolist() == pytest.approx(PINNED, abs=0)


def test_norms_and_biases_keep_ones_and_zeros(small):
    model = GPT(small().model)
    initialise(model, 1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            value = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            assert (parameter == value).all(), name


def test_a_matrix_outside_the_list_is_refused(small):
    model = GPT(small().model)
    model.extra = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"extra.weight \(4, 4\): 0 of 16"):
        initialise(model, 1)
