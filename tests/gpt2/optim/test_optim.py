"""Decay acts on the blocks' matrices; the schedule is the formula."""

import importlib
import io
import math

import pytest
import torch

from gpt2 import optim
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.optim.build import CHOSEN
from kconf.bind import SettingsError
from kconf.syntax import ConfigError


def test_decay_shrinks_matrices_and_leaves_the_rest(small):
    settings = small(WEIGHT_DECAY="0.5", LEARNING_RATE="0.1", MLA="y")
    model = GPT(settings.model)
    initialise(model, 1)
    optimizer = optim.build(model, settings.optim)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    shrunk, kept = set(), set()
    for name, parameter in model.named_parameters():
        if torch.equal(parameter, before[name]):
            kept.add(name)
        else:
            assert torch.allclose(parameter, before[name] * 0.95), name
            shrunk.add(name)
    matrices = {"attn.projection.q", "attn.projection.down", "attn.projection.k_up"}
    matrices |= {"attn.projection.v_up", "attn.o", "mlp.inner", "mlp.outer"}
    assert shrunk == {f"h.{i}.{m}.weight" for i in (0, 1) for m in matrices}
    assert {"wte.weight", "wpe.weight", "norm_f.weight", "norm_f.bias"} <= kept
    assert {"h.0.norm1.weight", "h.1.mlp.outer.bias", "h.0.attn.o.bias"} <= kept


MOMENTS = {"betas": (0.9, 0.99), "eps": 1e-6}
CONFIGURED = {"ADAM_BETA2": "0.99", "ADAM_EPS": "1e-6"}
MUON = {"momentum": 0.9, "ns_steps": 4}

# What is configured, and the optimizers of torch it has to equal: one over
# both groups, or one for the matrices and one for the rest.
TORCHS = {
    "sgd": (
        {"OPTIMIZER_SGD": "y", "SGD_MOMENTUM": "0.8"},
        [lambda groups: torch.optim.SGD(groups, momentum=0.8, fused=True)],
    ),
    "sgd without momentum": (
        {"OPTIMIZER_SGD": "y", "SGD_MOMENTUM": "0"},
        [lambda groups: torch.optim.SGD(groups, fused=True)],
    ),
    "sgd, Nesterov": (
        {"OPTIMIZER_SGD": "y", "SGD_NESTEROV": "y"},
        [
            lambda groups: torch.optim.SGD(
                groups, momentum=0.9, nesterov=True, fused=True
            )
        ],
    ),
    "adam": (
        {"OPTIMIZER_ADAM": "y", **CONFIGURED},
        [lambda groups: torch.optim.Adam(groups, **MOMENTS, fused=True)],
    ),
    "adamw": (
        {"OPTIMIZER_ADAMW": "y", **CONFIGURED},
        [lambda groups: torch.optim.AdamW(groups, **MOMENTS, fused=True)],
    ),
    "adamwadv": (
        {"OPTIMIZER_ADAMWADV": "y", **CONFIGURED},
        [lambda groups: torch.optim.AdamW(groups, **MOMENTS, amsgrad=True, fused=True)],
    ),
    "muon": (
        {"OPTIMIZER_MUON": "y", **CONFIGURED, "MUON_MOMENTUM": "0.9"}
        | {"MUON_STEPS": "4", "MUON_NESTEROV": "n"},
        [
            lambda groups: torch.optim.Muon(
                groups, **MUON, nesterov=False, adjust_lr_fn="match_rms_adamw"
            ),
            lambda groups: torch.optim.AdamW(groups, **MOMENTS, fused=True),
        ],
    ),
    "muon as first published": (
        {"OPTIMIZER_MUON": "y", **CONFIGURED, "MUON_MOMENTUM": "0.9"}
        | {"MUON_STEPS": "4", "MUON_SCALE_ORIGINAL": "y"},
        [
            lambda groups: torch.optim.Muon(groups, **MUON, adjust_lr_fn="original"),
            lambda groups: torch.optim.AdamW(groups, **MOMENTS, fused=True),
        ],
    ),
}


def trained(model, optimizers, steps, first=0):
    """Real gradients of a small model under a changing rate."""
    for step in range(first, first + steps):
        tokens = torch.randint(0, 257, (2, 17), generator=torch.manual_seed(step))
        model.zero_grad()
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 + step % 5)
            optimizer.step()


def groups_of(model, decay=0.1):
    """The blocks' matrices, which decay, and the rest."""
    named = list(model.named_parameters())
    decayed = [p for n, p in named if n[:2] == "h." and p.dim() > 1]
    rest = [p for n, p in named if n[:2] != "h." or p.dim() < 2]
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": rest, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("name", TORCHS)
def test_the_step_is_torchs_own(small, name):
    """Bit for bit, over the same groups."""
    symbols, makers = TORCHS[name]
    settings = small(**symbols)
    ours, plain = GPT(settings.model), GPT(settings.model)
    for model in (ours, plain):
        initialise(model, 1)
    groups = groups_of(plain)
    parts = [groups] if len(makers) == 1 else [groups[:1], groups[1:]]
    theirs = [make(part) for make, part in zip(makers, parts, strict=True)]
    trained(ours, [optim.build(ours, settings.optim)], 4)
    trained(plain, theirs, 4)
    for (key, p), q in zip(ours.named_parameters(), plain.parameters()):
        assert torch.equal(p, q), key


@pytest.mark.parametrize("name", TORCHS)
def test_resume_is_exact(small, name):
    """The state dict through a file, into a fresh model and optimizer."""
    settings = small(**TORCHS[name][0])
    straight, resumed = GPT(settings.model), GPT(settings.model)
    for seed, model in enumerate((straight, resumed)):
        initialise(model, seed)
    optimizer = optim.build(straight, settings.optim)
    trained(straight, [optimizer], 3)
    file = io.BytesIO()
    torch.save([straight.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed.load_state_dict(weights)
    other = optim.build(resumed, settings.optim)
    other.load_state_dict(state)
    trained(straight, [optimizer], 4, 3)
    trained(resumed, [other], 4, 3)
    for (key, p), q in zip(straight.named_parameters(), resumed.parameters()):
        assert torch.equal(p, q), key


def test_muon_is_one_optimizer(small):
    """Its groups, its state and its rates are those of both parts."""
    settings = small(OPTIMIZER_MUON="y")
    model = GPT(settings.model)
    initialise(model, 1)
    optimizer = optim.build(model, settings.optim)
    before = [p.detach().clone() for p in model.parameters()]
    trained(model, [optimizer], 1)
    matrices, rest = groups_of(model)
    for p in matrices["params"]:
        assert list(optimizer.state[p]) == ["momentum_buffer"]
    for p in rest["params"]:
        assert list(optimizer.state[p]) == ["step", "exp_avg", "exp_avg_sq"]
    assert set(optimizer.state) == set(model.parameters())
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before))
    moved = [p.detach().clone() for p in model.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), moved))


def test_muons_steps_are_nearly_orthogonal_and_of_adamws_size(small):
    """0.2 √max(rows, columns) × a matrix with singular values near 1."""
    settings = small(OPTIMIZER_MUON="y", WEIGHT_DECAY="0")
    model = GPT(settings.model)
    initialise(model, 1)
    optimizer = optim.build(model, settings.optim)
    weight = model.h[0].mlp.inner.weight
    before = weight.detach().clone()
    trained(model, [optimizer], 1)
    step = (before - weight.detach()) / (1e-3 * 0.2 * math.sqrt(64))
    sizes = torch.linalg.svdvals(step.double())
    assert 0.6 < sizes.median() < 1.2 and sizes.max() < 1.4


def test_an_optimizer_of_the_menu_is_a_file_by_its_name(tree):
    """And what chooses the file is the symbol."""
    assert set(optim.kinds()) == set(tree.members("OPTIMIZER_"))
    for kind in optim.kinds():
        module = f"gpt2.optim.{kind}"
        assert CHOSEN[module] == (f"OPTIMIZER_{kind.upper()}",)
        assert importlib.import_module(module).facts


@pytest.mark.parametrize("kind", optim.kinds())
def test_an_optimizer_keeps_what_its_facts_say(small, kind):
    """Of a matrix and of the rest; Kconfig's word on moments is theirs."""
    settings = small(**{f"OPTIMIZER_{kind.upper()}": "y"}).optim
    model, facts = GPT(small().model), optim.facts(settings)
    optimizer = optim.build(model, settings)
    trained(model, [optimizer], 1)
    decayed = optim.decayed_names(model)
    for name, parameter in model.named_parameters():
        kept = {
            key: value
            for key, value in optimizer.state[parameter].items()
            if torch.is_tensor(value) and value.shape == parameter.shape
        }
        said = facts.matrix_state if name in decayed else facts.other_state
        assert set(kept) == set(said), name
        assert {value.element_size() for value in kept.values()} == {4}
    moments = {"exp_avg", "exp_avg_sq"} <= set(facts.matrix_state)
    assert settings.has_moments == moments == (kind not in ("sgd", "muon"))
    assert (settings.beta1 is None) == (kind == "sgd")


def test_without_momentum_nothing_is_kept(small):
    settings = small(OPTIMIZER_SGD="y", SGD_MOMENTUM="0").optim
    model = GPT(small().model)
    optimizer = optim.build(model, settings)
    trained(model, [optimizer], 1)
    kept = [v for s in optimizer.state.values() for v in s.values() if v is not None]
    assert kept == [] and optim.facts(settings).state_bytes(model) == 0
    assert optim.state_bytes(model)["sgd"] == 4 * sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize("kind", optim.kinds())
def test_a_weight_without_gradient_and_state_stays(small, kind):
    """As the facts say, beside weights of its matrix that move."""
    settings = small(**{f"OPTIMIZER_{kind.upper()}": "y", "WEIGHT_DECAY": "0"}).optim
    model = GPT(small().model)
    initialise(model, 1)
    optimizer = optim.build(model, settings)
    weight = model.h[0].mlp.inner.weight
    before = weight.detach().clone()
    stream = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=stream)
    still = torch.rand(weight.shape, generator=stream) < 0.5
    weight.grad[still] = 0.0
    optimizer.step()
    moved = (weight.detach() != before)[still].any().item()
    assert moved == (not optim.facts(settings).elementwise)


@pytest.mark.parametrize("kind", optim.kinds())
def test_kconfig_offers_one_pass_to_those_that_have_it(small, kind):
    symbols = {f"OPTIMIZER_{kind.upper()}": "y", "UPDATE_ONE_PASS": "y"}
    if optim.facts(small(**{f"OPTIMIZER_{kind.upper()}": "y"}).optim).one_pass:
        assert optim.resolve_update(small(**symbols).optim, "cpu") == "one_pass"
        return
    with pytest.raises(ConfigError, match="UPDATE_ONE_PASS"):
        small(**symbols)


def test_nesterov_without_momentum_is_refused(small):
    with pytest.raises(SettingsError, match="SGD_NESTEROV=y: needs a momentum"):
        small(OPTIMIZER_SGD="y", SGD_NESTEROV="y", SGD_MOMENTUM="0")


def test_the_defaults_are_the_papers(small):
    """adamwadv: cosine and clip 1.0 come from the menu's defaults."""
    assert small(OPTIMIZER_ADAMWADV="y").optim.clip == 1.0
    muon = small(OPTIMIZER_MUON="y").optim
    assert (muon.muon_momentum, muon.muon_steps) == (0.95, 5)
    assert muon.muon_nesterov and muon.muon_scale == "match_rms_adamw"
    sgd = small(OPTIMIZER_SGD="y").optim
    assert (sgd.sgd_momentum, sgd.sgd_nesterov) == (0.9, False)


def test_schedule(small):
    settings = small(
        LEARNING_RATE="1.0", MIN_LEARNING_RATE="0.1", GPT2_WARMUP_STEPS="4"
    ).optim

    def rate(step):
        return optim.learning_rate(settings, step, 24)

    assert [rate(s) for s in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate(4) == 1.0
    assert rate(14) == pytest.approx(0.55)
    assert rate(9) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert 0.1 < rate(23) < 0.11
    assert optim.learning_rate(settings, 24, 24) == pytest.approx(0.1)


def test_a_warm_up_as_long_as_the_run_never_peaks(small):
    settings = small(LEARNING_RATE="1.0", GPT2_WARMUP_STEPS="50").optim
    assert optim.learning_rate(settings, 9, 10) == pytest.approx(10 / 51)
