"""Every step of the ratio study on our kernels: served, traced whole, equal.

The models are small, two layers of 12 heads 8 wide; interpreted where they run.
"""

from functools import cache

import pytest
import torch

from gpt2.model.gpt import GPT
from gpt2.model.mixers.attention import impl
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.settings.model import MOST_KEPT, ModelSettings
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from kconf.overrides import Overrides
from kconf.strict import Tree
from kconf.study import list_steps, resolve_step
from kernels.attention import configs, fused, spec
from tests.conftest import ROOT

STUDY = "gpt2-ratio-ablation"
STEPS = {step.number: step for step in list_steps(ROOT, STUDY)}
# Nothing looks at their probabilities and their scores are plain.
BY_SDPA = {0, 1, 2, 3, 8, 9}
RA = {5, 6, 7, 11, 12, 15, 16}
T = 24
SIZE = {"GPT2_LAYERS": "2", "GPT2_BLOCK_SIZE": str(T)}


@cache
def settings(number: int, name: str, *more: tuple[str, str]) -> ModelSettings:
    """The model of a step, small."""
    folder = ROOT / "defconfigs"
    stages = folder / STUDY, folder / "fragments" / "tiny.config"
    symbols = {**SIZE, f"ATTENTION_IMPL_{name.upper()}": "y", **dict(more)}
    if number in RA:
        symbols["RA_BAND"] = "8"
    overrides = Overrides(symbols, "test")
    resolved = resolve_step(Tree(ROOT), stages, STEPS[number], overrides)
    return run_settings(resolved.values).model


@pytest.mark.parametrize("number", STEPS)
def test_auto_takes_what_serves(number):
    model = settings(number, "auto")
    assert model.obstacle("triton") is None
    plain = number in BY_SDPA
    assert resolve_attention(model, "cpu", half=False) == (
        "sdpa" if plain else "reference"
    )
    assert resolve_attention(model, "cuda", half=True) == (
        "sdpa" if plain else "triton"
    )


def test_settings_know_how_many_the_kernels_keep():
    assert MOST_KEPT == spec.MOST


@pytest.mark.parametrize(
    "number, symbols, says",
    [
        (13, {"RA_CT_HEAD_AVERAGE": "y"}, "HEAD_AVERAGE"),
        (13, {"RA_CT_K": "17"}, "RA_CT_K=17"),
        (17, {"RA": "y"}, "transposed score"),
        (4, {"MLP_CROSS_TOKEN_NONE": "y"}, "CROSS_TOKEN_TOPK"),
        (4, {"MLP_CROSS_TOKEN_K": "17"}, "CROSS_TOKEN_K=17"),
        (4, {"MLP_CROSS_TOKEN_GRADIENT": "y"}, "CROSS_TOKEN_GRADIENT"),
        (4, {"GPT2_DROPOUT": "0.1"}, "dropout"),
    ],
)
def test_what_the_kernels_cannot_serve(number, symbols, says):
    model = settings(number, "auto", *symbols.items())
    assert says in model.obstacle("triton")
    assert resolve_attention(model, "cuda", half=True) == "reference"
    with pytest.raises(SettingsError, match=says):
        settings(number, "triton", *symbols.items())


@pytest.mark.parametrize("number", [0, 4, 18])
def test_auto_takes_our_kernels_for_documents(number):
    """sdpa would need a mask of B x T x T; it serves where they do not."""
    apart = ("DOCUMENTS_APART", "y")
    model, wide = settings(number, "auto", apart), ("GPT2_DROPOUT", "0.1")
    assert resolve_attention(model, "cuda", half=True) == "triton"
    plain = number in BY_SDPA
    assert resolve_attention(model, "cpu", half=False) == (
        "sdpa" if plain else "reference"
    )
    dropping = settings(number, "auto", apart, wide)
    assert resolve_attention(dropping, "cuda", half=True) == (
        "sdpa" if plain else "reference"
    )


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("number", STEPS)
def test_no_graph_break(number, documents):
    with torch.device("meta"):
        model = GPT(settings(number, "triton"))
        tokens = torch.zeros(2, T, dtype=torch.long)
        starts = torch.zeros(2, T, dtype=torch.int32) if documents else None
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    compiled(tokens, tokens, starts).backward()
    assert all(p.grad is not None for p in model.parameters())


def trained(number: int, impl: str, documents: bool = False) -> list[torch.Tensor]:
    """The loss and every gradient of one step's model, of three documents or of one;
    run interpreted.
    """
    torch.manual_seed(number)
    model = GPT(settings(number, impl))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens = torch.randint(0, 257, (1, T + 1))
    ends = torch.tensor([0, 7, 10, T], dtype=torch.int32)
    starts = fused.document_starts(ends, T) if documents else None
    loss = model(tokens[:, :-1], tokens[:, 1:], starts)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize(
    "number, documents",
    [(16, False), (17, False), (18, False), (16, True), (17, True), (18, True)],
)
def test_equal_to_the_reference(interpret, number, documents):
    pytest.importorskip("triton")
    ours = interpret(trained, number, "triton", documents)
    theirs = trained(number, "reference", documents)
    for mine, plain in zip(ours, theirs, strict=True):
        error, size = (mine - plain).norm().item(), plain.norm().item()
        assert error <= 2e-5 * size + 1e-7, (mine.shape, error, size)


def test_ours_for_plain_attention_where_it_is_faster(monkeypatch):
    """On Hopper, in 16 bits, of one product, up to 4096 tokens."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (impl, configs):
        monkeypatch.setattr(module, "target_of", lambda device: "cuda:90")
    ours, longer = settings(0, "auto"), (("GPT2_BLOCK_SIZE", "8192"),)
    assert resolve_attention(ours, "cuda", half=True) == "triton"
    assert resolve_attention(ours, "cuda", half=False) == "sdpa"
    assert resolve_attention(ours, "cpu", half=True) == "sdpa"
    for model in (settings(0, "auto", *longer), settings(8, "auto")):
        assert resolve_attention(model, "cuda", half=True) == "sdpa"
    monkeypatch.setattr(impl, "target_of", lambda device: "cuda:80")
    assert resolve_attention(ours, "cuda", half=True) == "sdpa"


@pytest.mark.parametrize("number", [0, 8])
@pytest.mark.parametrize("more", [(), (("SLIDING", "y"), ("WINDOW", "5"))])
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_equals_the_reference(number, more):
    """Also with documents apart; torch has no backward pass for it on a CPU."""
    torch.manual_seed(3)
    tokens = torch.randint(0, 257, (2, T + 1))
    starts = (torch.arange(T, dtype=torch.int32) // 7 * 7).repeat(2, 1)
    found = []
    for name in ("flex", "reference"):
        torch.manual_seed(number)
        model = GPT(settings(number, name, ("DOCUMENTS_APART", "y"), *more))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        with torch.no_grad():
            found.append(model(tokens[:, :-1], starts_BT=starts))
        if name == "flex":
            with pytest.raises(NotImplementedError, match="trains on a GPU"):
                model(tokens[:, :-1])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_flex_cannot_serve_more_than_sdpa():
    with pytest.raises(SettingsError, match="transposed score"):
        settings(5, "flex")
    with pytest.raises(SettingsError, match="dropout"):
        settings(0, "flex", ("GPT2_DROPOUT", "0.1"))


def test_the_packed_path_is_taken(interpret):
    """Steps whose q, k and v come from one product, forward and backward."""
    for number in (0, 5, 13):
        ours = interpret(trained, number, "triton")
        for mine, plain in zip(ours, trained(number, "reference"), strict=True):
            error, size = (mine - plain).norm().item(), plain.norm().item()
            assert error <= 2e-5 * size + 1e-7, (number, mine.shape, error, size)
