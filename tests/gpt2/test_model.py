"""The baseline is GPT-2; the slots compute what their formulas say."""

import math

import pytest
import torch
import transformers

from gpt2.attention.core import attend
from gpt2.attention.mla import Latent
from gpt2.hf import load_gpt2
from gpt2.init import initialise
from gpt2.model import GPT
from kernels.attention import attention


def transformers_gpt2(vocabulary=257, width=32):
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=16,
        n_embd=width,
        n_layer=2,
        n_head=4,
        n_inner=64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return theirs


@pytest.mark.parametrize("impl", ["ATTENTION_IMPL_SDPA", "ATTENTION_IMPL_REFERENCE"])
def test_logits_equal_transformers_gpt2(small, impl):
    theirs = transformers_gpt2()
    ours = GPT(small(**{impl: "y"}).model)
    load_gpt2(ours, theirs.state_dict())
    tokens = torch.randint(0, 257, (3, 16))
    with torch.no_grad():
        wanted = theirs(tokens).logits
        found = ours(tokens)
    assert found.shape[-1] == 320
    assert (found[..., :257] - wanted).abs().max().item() <= 1e-5
    assert wanted.std() > 0.1
    loss = ours(tokens[:, :-1], tokens[:, 1:])
    rows = torch.cat([wanted[:, :-1], torch.zeros(3, 15, 63)], dim=-1)
    plain = torch.nn.functional.cross_entropy(
        rows.flatten(0, 1), tokens[:, 1:].flatten()
    )
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)


def test_a_state_dict_of_another_shape_is_refused(small):
    ours = GPT(small(MLP_DIM="80").model)
    with pytest.raises(ValueError, match=r"h.0.mlp.inner.weight: \(80, 32\) here"):
        load_gpt2(ours, transformers_gpt2().state_dict())


def loops(q, k, v):
    """Causal softmax attention, one score at a time."""
    B, T, H, D = q.shape
    out = torch.zeros_like(v)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                scores = [
                    sum(q[b, t, h, d] * k[b, s, h, d] for d in range(D)) / math.sqrt(D)
                    for s in range(t + 1)
                ]
                weights = [math.exp(s) for s in scores]
                for s in range(t + 1):
                    out[b, t, h] += weights[s] / sum(weights) * v[b, s, h]
    return out


@pytest.mark.parametrize("impl", ["sdpa", "reference"])
def test_attention_equals_the_loops(impl):
    q, k, v = torch.randn(3, 2, 7, 2, 3, dtype=torch.float64)
    wanted = loops(q, k, v)
    assert torch.allclose(attend(q, k, v, impl, 0.0), wanted, atol=1e-12)


def test_probabilities_sum_to_one_and_are_causal():
    q, k, v = torch.randn(3, 2, 9, 2, 4)
    _, p = attention(q, k, v)
    assert torch.allclose(p.sum(-1), torch.ones(2, 2, 9))
    assert (p.triu(1) == 0).all()


def test_dropout_acts_in_training_only(small):
    model = GPT(small(GPT2_DROPOUT="0.5").model)
    initialise(model, 1)
    tokens = torch.randint(0, 257, (2, 16))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("impl", ["sdpa", "reference"])
def test_attention_dropout_drops_probabilities(impl):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 32, 2, 4)
    kept = attend(q, k, v, impl, 0.0)
    dropped = torch.stack([attend(q, k, v, impl, 0.3) for _ in range(400)])
    assert not torch.equal(dropped[0], kept)
    assert torch.allclose(dropped.mean(0), kept, atol=0.35)


def test_mla_is_the_formula(small):
    settings = small(MLA="y", MLA_LATENT="8").model
    layer = Latent(settings).double()
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    q, k, v = layer(x)
    down = layer.kv_down.weight
    ck, cv = x @ down[:8].T, x @ down[8:].T
    for h in range(4):
        rows = slice(8 * h, 8 * (h + 1))
        assert torch.allclose(k[:, :, h], ck @ layer.k_up.weight[rows].T)
        assert torch.allclose(v[:, :, h], cv @ layer.v_up.weight[rows].T)
    assert layer.kv_down.bias is None and layer.k_up.bias is None
    wanted = x @ layer.q.weight.T + layer.q.bias
    assert torch.allclose(q.flatten(2), wanted)


def test_absorbed_decode_of_mla_equals_expanded_attention(small):
    """q A_h^T against c^k gives the scores of q against c^k A_h."""
    layer = Latent(small(MLA="y", MLA_LATENT="8").model).double()
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    q, k, _ = layer(x)
    ck = x @ layer.kv_down.weight[:8].T
    up = layer.k_up.weight.view(4, 8, 8)
    absorbed = torch.einsum("bthd,hdl->bthl", q, up)
    wide = torch.einsum("bthl,bsl->bhts", absorbed, ck)
    plain = torch.einsum("bthd,bshd->bhts", q, k)
    assert torch.allclose(wide, plain, atol=2e-15 * 1e3)


def test_too_long_a_sequence_is_an_error(small):
    model = GPT(small().model)
    with pytest.raises(ValueError, match="17 tokens exceed the context of 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
