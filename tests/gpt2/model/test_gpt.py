"""The baseline is GPT-2; the slots compute what their formulas say."""

import pytest
import torch
import transformers

from gpt2.export.names import DIALECTS, take
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers.attention.attention import Attention
from gpt2.model.values import BlockToBlock, Positions


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


def load_gpt2(ours, theirs):
    """Without the head, which is tied."""
    state = theirs.state_dict()
    del state["lm_head.weight"]
    take(ours, state, DIALECTS["hf", "gpt2"], 257)


@pytest.mark.parametrize("impl", ["ATTENTION_IMPL_SDPA", "ATTENTION_IMPL_REFERENCE"])
def test_logits_equal_transformers_gpt2(small, impl):
    theirs = transformers_gpt2()
    ours = GPT(small(**{impl: "y"}).model)
    load_gpt2(ours, theirs)
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
        load_gpt2(ours, transformers_gpt2())


def test_dropout_acts_in_training_only(small):
    model = GPT(small(GPT2_DROPOUT="0.5").model)
    initialise(model, 1)
    tokens = torch.randint(0, 257, (2, 16))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("impl", ["ATTENTION_IMPL_SDPA", "ATTENTION_IMPL_REFERENCE"])
def test_attention_dropout_keeps_the_mean(small, impl):
    """Dropped probabilities are scaled up: the mean of many draws is undropped."""
    torch.manual_seed(0)
    layer = Attention(small(GPT2_DROPOUT="0.3", **{impl: "y"}).model)
    x = torch.randn(1, 16, 32)
    with torch.no_grad():
        kept = layer.eval()(x, BlockToBlock(), Positions(), None)[0]
        layer.train()
        draws = [layer(x, BlockToBlock(), Positions(), None)[0] for _ in range(400)]
    assert not torch.equal(draws[0], kept)
    assert torch.allclose(torch.stack(draws).mean(0), kept, atol=0.05)


def test_too_long_a_sequence_is_an_error(small):
    model = GPT(small().model)
    with pytest.raises(ValueError, match="17 tokens exceed the context of 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
