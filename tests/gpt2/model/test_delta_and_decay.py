"""GLA, DeltaNet and Gated DeltaNet: what they refuse, keep, and are in their limits."""

import pytest
import torch

from gpt2.model.costs import count, meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.values import BlockToBlock, Positions
from kconf.bind import SettingsError
from kconf.overrides import Overrides

KINDS = ("gla", "deltanet", "gdn")
SHAPE = {"GPT2_WIDTH": "24", "GPT2_HEADS": "3", "GPT2_LAYERS": "2"}
SHAPE |= {"GPT2_SIZE_CUSTOM": "y"}


@pytest.fixture
def settings(resolve):
    """settings(MIXER_GDN="y", …): two layers of three heads of 8."""
    from gpt2.settings.run import run_settings

    return lambda **symbols: run_settings(resolve(**{**SHAPE, **symbols})).model


def mixer(model, settings):
    """The mixer of a second layer, in float64."""
    built = GPT(settings(**model))
    initialise(built, 3)
    return built.double().h[1].attn


def mixed(module, x_BTE):
    """What it makes of x."""
    return module(x_BTE, BlockToBlock(), Positions(), None)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_attention_has_is_refused(settings, tree, kind):
    """By Kconfig, and by the settings where layers are named."""
    chosen = {f"MIXER_{kind.upper()}": "y"}
    hidden = tree.resolve([Overrides(chosen)]).visible
    for symbol in ("RA", "SOFTPICK", "SLIDING", "MLA", "MLP_CROSS_TOKEN"):
        assert symbol not in hidden
        reason = "acts on attention, which is none" if symbol[:3] != "MLP" else kind
        with pytest.raises(SettingsError, match=reason):
            settings(**chosen, MIXER_LAYERS=kind, **{symbol: "y"})
    with pytest.raises(SettingsError, match=f"rotates .* {kind} has none"):
        settings(**chosen, POSITION_ROPE="y")


def test_ranks_follow_the_width(settings):
    model = settings(MIXER_GLA="y", GLA_RANK="4", WIDTH_DIVISOR="2", GPT2_WIDTH="48")
    assert GPT(model).h[0].attn.decay_down.weight.shape == (2, 24)
    with pytest.raises(SettingsError, match="GLA_RANK=3: is not a multiple of"):
        settings(MIXER_GLA="y", GLA_RANK="3", WIDTH_DIVISOR="2", GPT2_WIDTH="48")
    with pytest.raises(SettingsError, match="gla needs CONFIG_MIXER_GLA=y"):
        settings(MIXER_LAYERS="gla attention")


@pytest.mark.parametrize(
    "kind, constant", [("gla", 3 * 64), ("deltanet", 3 * 64 + 9 * 24), ("gdn", 408)]
)
def test_a_decode_keeps_a_state_and_tails(settings, kind, constant):
    facts = count(meta_model(settings(**{f"MIXER_{kind.upper()}": "y"})))
    assert (facts.cache_per_token, facts.cache_constant) == (0, 2 * constant)


def test_gated_deltanet_that_forgets_nothing_is_deltanet(settings):
    """But for its gate: silu of a constant c scales every head by silu(c)."""
    plain = mixer({"MIXER_DELTANET": "y"}, settings)
    gated = mixer({"MIXER_GDN": "y"}, settings)
    shared = {n: p for n, p in plain.named_parameters()}
    with torch.no_grad():
        for name, parameter in gated.named_parameters():
            if name in shared:
                parameter.copy_(shared[name])
        gated.A_log.fill_(-80.0)
        gated.g.weight.zero_()
        gated.g.weight[:, 0] = 1.0
        x_BTE = torch.randn(2, 70, 24, dtype=torch.float64)
        x_BTE[..., 0] = 0.7
        scale = torch.nn.functional.silu(torch.tensor(0.7, dtype=torch.float64))
        bias = plain.o.bias
        wanted = scale * (mixed(plain, x_BTE) - bias) + bias
        torch.testing.assert_close(mixed(gated, x_BTE), wanted)


def test_gla_that_keeps_all_hears_the_first_token_as_the_last(settings):
    """With decays of 1 outputs are sums: the order of what is before does not matter."""
    gla = mixer({"MIXER_GLA": "y"}, settings)
    with torch.no_grad():
        x_BTE = torch.randn(1, 40, 24, dtype=torch.float64)
        turned_BTE = torch.cat([x_BTE[:, :-1].flip(1), x_BTE[:, -1:]], dim=1)
        fading = [mixed(gla, x)[:, -1] for x in (x_BTE, turned_BTE)]
        gla.decay_offset.fill_(1e4)
        kept = [mixed(gla, x)[:, -1] for x in (x_BTE, turned_BTE)]
    assert (fading[0] - fading[1]).abs().max() > 1e-4
    torch.testing.assert_close(*kept)
