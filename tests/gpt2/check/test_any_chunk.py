"""The proof "any chunk": what other proofs of 48 tokens cannot see."""

import pytest

from gpt2.check.proofs.chunks import SIZES, any_chunk
from gpt2.check.prove import NETWORK
from gpt2.check.subject import Broken
from gpt2.model.mixers import linear, recurrent
from gpt2.model.mixers.recurrent import Recurrent
from kernels.recurrence import chunked

KINDS = ("linear", "retnet", "mamba2", "gla", "deltanet", "gdn")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixer_is_the_same_in_any_chunk(subject, kind):
    any_chunk(subject(**{f"MIXER_{kind.upper()}": "y"}))


def test_it_is_asked_of_hybrids_and_of_no_attention(subject, monkeypatch):
    def no_pass(model, size, tokens_1T, starts_1T):
        raise Broken(f"{size}")

    assert ("any chunk", any_chunk) in NETWORK
    monkeypatch.setattr("gpt2.check.proofs.chunks._pass", no_pass)
    any_chunk(subject())
    with pytest.raises(Broken, match="^1$"):
        any_chunk(subject(MIXER_LAYERS="attention deltanet"))


def test_chunks_that_erase_by_the_first_one(subject, monkeypatch):
    """From the second chunk on, which a small model of 48 tokens does not have."""
    plain = chunked._carried

    def first(S, moved, decay, masks, erased):
        if erased is not None:
            erased = tuple(x[:, :, :1].expand(x.shape) for x in erased)
        return plain(S, moved, decay, masks, erased)

    monkeypatch.setattr(chunked, "_carried", first)
    with pytest.raises(Broken, match="chunks of 16 tokens: logits change by"):
        any_chunk(subject(MIXER_DELTANET="y"))


def test_a_state_that_is_handed_on_in_16_bits(subject, monkeypatch):
    plain = Recurrent._recurred

    def narrow(self, strands, state_BHKV, *rest):
        return plain(self, strands, state_BHKV.bfloat16().double(), *rest)

    monkeypatch.setattr(Recurrent, "_recurred", narrow)
    with pytest.raises(Broken, match="a state handed on after 13, 1, 50"):
        any_chunk(subject(MIXER_GDN="y"))


@pytest.mark.parametrize("kind", ["linear", "gla"])
def test_a_layer_takes_the_chunk_it_is_given(subject, monkeypatch, kind):
    module = {"linear": linear, "gla": recurrent}[kind]
    plain, sizes = module.run, []

    def counting(*given, size):
        sizes.append(size)
        return plain(*given, size=size)

    monkeypatch.setattr(module, "run", counting)
    any_chunk(subject(**{f"MIXER_{kind.upper()}": "y"}))
    assert set(sizes) == set(SIZES)
