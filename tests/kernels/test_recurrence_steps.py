"""CONFIG_MIXER_IMPL: what computes recurrent mixers, and that a model by our kernels is
the model.
"""

from dataclasses import replace

import pytest
import torch

from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers import recurrence_impl
from gpt2.model.mixers.recurrence_impl import resolve_recurrence
from gpt2.settings import model as settings_model
from gpt2.settings.model import ModelSettings
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from kconf.overrides import Overrides
from kconf.strict import Tree
from kconf.study import list_steps, resolve_step
from kernels.recurrence import configs, op, run
from tests.conftest import ROOT

STUDY = "gpt2-ratio-ablation"
TREE = Tree(ROOT)
LINEAR = {"MIXER_LINEAR": "y"}
WIDE = {"MIXER_MAMBA2": "y", "MAMBA2_STATE": "136"}


def settings(**symbols: str) -> ModelSettings:
    """A model of two layers, 24 wide."""
    size = {"GPT2_LAYERS": "2", "GPT2_BLOCK_SIZE": "40"}
    size |= {"GPT2_SIZE_CUSTOM": "y", "GPT2_WIDTH": "24", "GPT2_HEADS": "2"}
    overrides = Overrides(size | symbols, "test")
    stages = (ROOT / "defconfigs" / STUDY,)
    step = list_steps(ROOT, STUDY)[0]
    found = run_settings(resolve_step(TREE, stages, step, overrides).values).model
    return replace(found, vocab_size=64)


@pytest.mark.parametrize(
    "symbols, cpu, cuda",
    [
        ({}, "none", "none"),
        (LINEAR, "reference", "triton"),
        ({"MIXER_LAYERS": "linear attention"}, "reference", "triton"),
        (LINEAR | {"MIXER_IMPL_REFERENCE": "y"}, "reference", "reference"),
        (LINEAR | {"MIXER_IMPL_TRITON": "y"}, "triton", "triton"),
        ({"MIXER_MAMBA2": "y"}, "reference", "triton"),
        (WIDE, "reference", "reference"),
        ({"MIXER_GLA": "y"}, "reference", "reference"),
        ({"MIXER_GLA": "y", "MIXER_LAYERS": "gla gdn"}, "reference", "triton"),
    ],
    ids=str,
)
def test_auto_resolves_once_by_device(symbols, cpu, cuda):
    model = settings(**symbols)
    assert resolve_recurrence(model, "cpu") == cpu
    assert resolve_recurrence(model, "cuda") == cuda


def test_auto_takes_the_reference_where_no_tile_fits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = settings(**LINEAR)
    for target, wanted in (("cuda:90", "triton"), ("hip:gfx1100", "reference")):
        monkeypatch.setattr(recurrence_impl, "target_of", lambda device: target)
        assert resolve_recurrence(model, "cuda") == wanted


@pytest.mark.parametrize(
    "symbols, says",
    [
        (LINEAR | {"MIXER_IMPL_FLA": "y"}, "MIXER_IMPL_FLA.*comes later"),
        ({"MIXER_IMPL_TRITON": "y"}, "none of attention is"),
        (
            LINEAR | {"MIXER_IMPL_TRITON": "y", "GPT2_WIDTH": "272"},
            "up to 128 wide, not 136",
        ),
        (WIDE | {"MIXER_IMPL_TRITON": "y"}, "up to 128 wide, not 136"),
        ({"MIXER_GLA": "y", "MIXER_IMPL_TRITON": "y"}, "no kernels for decays by ch"),
    ],
    ids=["fla", "attention", "wide", "mamba2", "gla"],
)
def test_what_cannot_serve_is_refused(symbols, says):
    with pytest.raises(SettingsError, match=says):
        settings(**symbols)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_asked_for_by_name_is_refused_where_no_tile_fits(dtype):
    says = "no tiles for keys 64 wide on hip:gfx1100.*CONFIG_MIXER_IMPL_REFERENCE"
    with pytest.raises(NotImplementedError, match=says):
        configs.tile("hip:gfx1100", "mix", dtype, 64)


def test_a_mixer_with_a_state_says_what_it_decays_by():
    """A mixer that is computed by kernels/recurrence has a kind in its settings."""
    mixers = ROOT / "gpt2" / "model" / "mixers"
    names = [n for n in settings_model.OTHERS if (mixers / f"{n}.py").exists()]
    assert "linear" in names
    for name in names:
        text = (mixers / f"{name}.py").read_text()
        uses = "kernels.recurrence" in text or "mixers.recurrent " in text
        kind = settings_model._settings_of(name).recurrence
        assert bool(kind) == uses, name


def test_settings_know_the_widest_keys():
    assert settings_model.WIDEST_KEYS == op.WIDEST


def test_another_name_computes_nothing():
    x = torch.zeros(1, 4, 1, 16)
    with pytest.raises(ValueError, match="'fla' computes no recurrence"):
        run("fla", x.dtype, x, x, x, torch.zeros(1, 1, 16, 16))


def difference(kind: str, documents: bool) -> float:
    """Between a mixer's model by our kernels and by the reference, relative to each:
    logits and gradients; run interpreted.
    """
    torch.manual_seed(0)
    x = torch.randint(64, (1, 21))
    starts = torch.tensor([0, 9]).repeat_interleave(torch.tensor([9, 12])).int()
    starts = starts[None] if documents else None
    found = []
    for name in ("REFERENCE", "TRITON"):
        symbols = {f"MIXER_{kind}": "y", f"MIXER_IMPL_{name}": "y"}
        model = GPT(settings(**symbols))
        initialise(model, 1)
        logits = model(x, None, starts)
        logits.square().sum().backward()
        found.append([logits] + [p.grad for p in model.parameters()])
    return max(((a - b).norm() / (a.norm() + 1e-6)).item() for a, b in zip(*found))


@pytest.mark.parametrize("kind", ["LINEAR", "GDN"])
def test_a_model_by_our_kernels_is_the_model(interpret, kind):
    pytest.importorskip("triton")
    assert 0 < interpret(difference, kind, True) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RETNET", "MAMBA2", "DELTANET"])
def test_others_by_our_kernels_too(interpret, kind):
    pytest.importorskip("triton")
    assert 0 < interpret(difference, kind, False) < 2e-5
