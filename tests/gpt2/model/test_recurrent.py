"""What recurrent mixers share: state, statistics, refusals."""

import pytest
import torch

from gpt2.model.costs import count
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers.decays import decay_statistics
from kconf.bind import SettingsError

KINDS = ("retnet", "mamba2")
T = 9


def symbols(kind):
    """The mixer in every layer; Mamba-2 with a narrow state."""
    return {f"MIXER_{kind.upper()}": "y"} | (
        {"MAMBA2_STATE": "6"} if kind == "mamba2" else {}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_fp32_under_autocast(small, kind):
    model = GPT(small(**symbols(kind)).model).eval()
    initialise(model, 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, cache = model.decode(torch.zeros(1, T, dtype=torch.long))
    assert cache.layers[0].mixer.state_BHKV.dtype == torch.float32


def test_statistics_of_a_decay_by_hand():
    """Half of the state each token: 1, 1.5, 1.75 tokens are held; again from 1 where a
    document begins.
    """
    state = torch.full((1, 2, 3, 4), 0.5)
    decay = torch.full((1, 3, 2), 0.5).log()
    tokens = torch.zeros(1, 3)
    found = decay_statistics(decay, state, tokens, None)
    value = {name: each.final(*each.sums) for name, each in found.items()}
    assert torch.allclose(value["state_norm"], torch.tensor(3.0).sqrt().double())
    wanted = torch.full((2,), (1 + 1.5 + 1.75) / 3).double()
    assert torch.allclose(value["effective_span"], wanted)
    assert value["half_life"].sum() == 1 and value["half_life"][:2].sum() == 1
    starts = torch.tensor([[0, 0, 2]], dtype=torch.int32)
    apart = decay_statistics(decay, state, tokens, starts)["effective_span"]
    assert torch.allclose(apart.final(*apart.sums), torch.full((2,), 3.5 / 3).double())
    channels = torch.stack([decay, torch.zeros_like(decay)], dim=-1)
    mixed = decay_statistics(channels, torch.zeros(1, 2, 2, 4), tokens, None)
    span = mixed["effective_span"]
    wanted = torch.full((2,), ((1 + 1.5 + 1.75) + (1 + 2 + 3)) / 6).double()
    assert torch.allclose(span.final(*span.sums), wanted)
    last = mixed["half_life"].final(*mixed["half_life"].sums)[-1]
    assert last == 0.5
    nothing = decay_statistics(None, state, tokens, None)["effective_span"]
    assert torch.allclose(nothing.final(*nothing.sums), torch.full((2,), 2.0).double())


@pytest.mark.parametrize(
    "symbols, why",
    [
        ({"MIXER_MAMBA2": "y", "OUTPUT_GATE_HEADWISE": "y"}, "mamba2's heads have 2 E"),
        (
            {"MIXER_MAMBA2": "y", "MAMBA2_STATE": "6", "WIDTH_DIVISOR": "4"},
            "MAMBA2_STATE=6: is not a multiple of CONFIG_WIDTH_DIVISOR=4",
        ),
        (
            {"MIXER_RETNET": "y", "GPT2_WIDTH": "20", "GPT2_HEADS": "4"},
            "rotates pairs, but the head width is 5",
        ),
        ({"MIXER_MAMBA2": "y", "POSITION_ROPE": "y"}, "mamba2 has none"),
        ({"MIXER_LAYERS": "mamba2 attention"}, "mamba2 needs CONFIG_MIXER_MAMBA2=y"),
        (
            {"MIXER_MAMBA2": "y", "MIXER_LAYERS": "retnet attention"},
            "options that act on mamba2",
        ),
    ],
)
def test_what_is_refused(small, symbols, why):
    with pytest.raises(SettingsError, match=why):
        small(**symbols)


def test_a_rotation_has_the_base_of_the_positions(small):
    """10000, or CONFIG_ROPE_BASE where positions are rotary."""
    bases = [
        GPT(small(MIXER_RETNET="y", **more).model).h[0].attn.base
        for more in (
            {},
            {"POSITION_NONE": "y"},
            {"POSITION_ROPE": "y", "ROPE_BASE": "50"},
        )
    ]
    assert bases == [10000.0, 10000.0, 50.0]


def test_without_positions_there_is_no_parameter_of_them(small):
    model = GPT(small(MIXER_RETNET="y", POSITION_NONE="y").model)
    assert model.wpe is None and count(model).positions is None
