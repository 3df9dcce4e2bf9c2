"""A cached decode equals the full forward, and caches what is claimed."""

import pytest
import torch

from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mlp.attn_gate import AttentionGate
from gpt2.model.values import Positions
from tests.conftest import ROOT
from tests.gpt2.model.test_mechanisms import CASES, CROSS, GATE, LATENT, MLP_CASES

T = 16
ALL = {f"attention {name}": symbols for name, symbols in CASES.items()}
ALL |= {f"mlp {name}": symbols for name, symbols in MLP_CASES.items()}
ALL["rmsnorm"] = {"NORM_RMSNORM": "y"}
ALL["latent shared"] = {**LATENT, "MLA_SHARED_LATENT": "y"}
ALL["linear"] = {"MIXER_LINEAR": "y"}
ALL["linear gated"] = {"MIXER_LINEAR": "y", "OUTPUT_GATE_HEADWISE": "y", **GATE}
ALL["linear, attention"] = {"MIXER_LAYERS": "linear attention", **CASES["all"]}
ALL["gla, deltanet, gdn"] = {
    **{"MIXER_GLA": "y", "MIXER_LAYERS": "gla deltanet gdn", "GPT2_LAYERS": "3"},
    **{"OUTPUT_GATE_HEADWISE": "y", **GATE},
}
for kind in ("retnet", "mamba2", "gla", "deltanet", "gdn"):
    HYBRID = {f"MIXER_{kind.upper()}": "y", "MIXER_LAYERS": f"{kind} attention"}
    ALL[f"{kind}, attention"] = {**CASES["all"], **GATE, **HYBRID}
del ALL["mamba2, attention"]["OUTPUT_GATE_ELEMENTWISE"]
NSA = {"MIXER_NSA": "y", "KV_HEADS": "2", "LENGTH_DIVISOR": "16", "NSA_TOP": "3"}
ALL["nsa"] = {**NSA, **GATE, "OUTPUT_GATE_HEADWISE": "y"}
ALL["nsa shared"] = {**NSA, "NSA_SHARED_KV": "y", "MIXER_LAYERS": "nsa attention"}
ALL["three layers of all"] = {
    **GATE,
    **CROSS,
    **LATENT,
    **CASES["all"],
    "GPT2_LAYERS": "3",
}


def randomised(settings):
    """A model in float64 whose mechanisms all have a say."""
    model = GPT(settings.model)
    initialise(model, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.double().eval()


def decoded(model, tokens, chunks):
    cache, rows = None, []
    for chunk in tokens.split(chunks, dim=1):
        logits, cache = model.decode(chunk, cache)
        rows.append(logits)
    return torch.cat(rows, dim=1), cache


@pytest.mark.parametrize("case", ALL)
def test_decode_equals_forward(small, case):
    torch.manual_seed(0)
    settings = small(**ALL[case])
    model = randomised(settings)
    tokens = torch.randint(0, 257, (2, T))
    with torch.no_grad():
        wanted = model(tokens)
    for chunks in ([1] * T, [5, 1, 7, 3], [T]):
        found, cache = decoded(model, tokens, chunks)
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10), chunks
        assert cache.length == T
    for block, layer in zip(model.h, cache.layers):
        held = sum(tensor[0].numel() for tensor in layer.tensors())
        assert held == block.cache_size(T).total


def test_decode_equals_forward_in_fp32(small):
    torch.manual_seed(0)
    model = randomised(small(**ALL["three layers of all"])).float()
    tokens = torch.randint(0, 257, (2, T))
    with torch.no_grad():
        wanted = model(tokens)
    found, _ = decoded(model, tokens, [1] * T)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("number", range(19))
def test_every_ratio_step_decodes(tree, number):
    from gpt2.check.studies import from_defconfig
    from gpt2.check.subject import Subject
    from gpt2.settings.run import run_settings
    from kconf.study import resolve_step

    study = from_defconfig(ROOT, "gpt2-ratio-ablation")
    (step,) = study.only(str(number)).steps
    run = run_settings(resolve_step(tree, study.stages, step).values)
    torch.manual_seed(number)
    model = randomised(Subject(step.id, run, run, {}).small)
    tokens = torch.randint(0, 97, (1, 48))
    with torch.no_grad():
        wanted = model(tokens)
    found, cache = decoded(model, tokens, [1] * 30 + [18])
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_the_running_sum_is_fp32(small):
    """bf16 holds 256 + 1 as 256; the mean of many equal contexts must not sag."""
    gate = AttentionGate(small(**GATE).model).bfloat16()
    heard_Btr = gate.down(torch.ones(1, 1, 64, dtype=torch.bfloat16))
    total, first = gate.empty_total(heard_Btr[:, :0]), None
    for t in range(600):
        factor, total = gate(heard_Btr, Positions(t), total)
        first = factor if first is None else first
    assert total.dtype == torch.float32
    assert torch.equal(factor, first)
    assert torch.equal(
        gate(heard_Btr.expand(-1, 600, -1), Positions(), None)[0][:, -1:], first
    )


@pytest.mark.parametrize(
    "case",
    [
        "three layers of all",
        "attention gqa-ra",
        "linear, attention",
        "nsa",
        "nsa shared",
    ],
)
def test_the_cache_is_a_value(small, case):
    """Several continuations of one prefix do not disturb each other, however they
    take turns, and the prefix stays what it was.
    """
    model = randomised(small(**ALL[case]))
    tokens = torch.randint(0, 257, (1, T))
    _, prefix = model.decode(tokens[:, :6])
    tails = [torch.randint(0, 257, (1, T - 6)) for _ in range(3)]
    caches = [prefix] * 3
    for i in range(T - 6):
        for which, tail in enumerate(tails):
            found, caches[which] = model.decode(tail[:, i : i + 1], caches[which])
            text = torch.cat([tokens[:, :6], tail[:, : i + 1]], dim=1)
            with torch.no_grad():
                wanted = model(text)[:, -1:]
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)
    assert prefix.length == 6


def test_too_long_a_text_is_an_error(small):
    model = randomised(small())
    _, cache = model.decode(torch.zeros(1, T, dtype=torch.long))
    with pytest.raises(ValueError, match="17 tokens exceed"):
        model.decode(torch.zeros(1, 1, dtype=torch.long), cache)
