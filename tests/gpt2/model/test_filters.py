"""Filters of a convolution have two dimensions and are no products; laws are drawn."""

import numpy as np
import pytest
import torch

from gpt2 import optim, pruning
from gpt2.check.proofs.initial import initial_values
from gpt2.check.subject import Broken, Subject
from gpt2.model import precision
from gpt2.model.costs import count, meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import InitialLaw, Matrix, initialise, products, uniform
from gpt2.model.mixers.mamba2 import Mamba2
from gpt2.model.quantiles import log_rate, step_offset, taps

HYBRID = {"MIXER_MAMBA2": "y", "MIXER_LAYERS": "mamba2 attention", "MAMBA2_STATE": "6"}
FILTERS = {f"h.0.attn.conv_{name}.weight" for name in "xBC"}


def built(settings):
    model = GPT(settings.model)
    initialise(model, 1)
    return model


def loss_of(model, T=16):
    tokens = torch.randint(0, 257, (2, T), generator=torch.Generator().manual_seed(4))
    return model(tokens, tokens)


def test_they_do_not_decay_nor_become_orthogonal(small):
    """Group 0 is what weight decay and Muon act on."""
    settings = small(**HYBRID, OPTIMIZER_MUON="y", WEIGHT_DECAY="0.1")
    model = built(settings)
    optimizer = optim.build(model, settings.optim)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [{names[id(p)] for p in g["params"]} for g in optimizer.param_groups]
    assert FILTERS <= groups[1] and not FILTERS & groups[0]
    assert {"h.0.attn.qkv.weight", "h.0.attn.g.weight"} <= groups[0]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss_of(model).backward()
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all() and not torch.equal(p, before[name]), name


def test_they_are_not_pruned(small):
    settings = small(
        **HYBRID, PRUNING_MAGNITUDE="y", PRUNING_SPARSITY="0.5", PRUNING_FREQUENCY="1"
    )
    model = built(settings)
    optimizer = optim.build(model, settings.optim)
    pruner = pruning.build(model, optimizer, settings.pruning, settings.optim)
    assert not FILTERS & set(pruner.masks) and "h.0.attn.dt.weight" in pruner.masks
    pruner.update(pruner.covered // 2)
    zeros = {name: (p == 0).sum().item() for name, p in model.named_parameters()}
    assert not any(zeros[name] for name in FILTERS)
    assert sum(zeros[name] for name in pruner.masks) == pruner.covered // 2


def test_they_are_read_in_fp32(small):
    """A bf16 copy shares them with the master; a loss and its gradients are finite."""
    model = built(small(**HYBRID))
    weights = precision.build(model, "bf16")
    read = dict(weights.model.named_parameters())
    assert all(read[name] is dict(model.named_parameters())[name] for name in FILTERS)
    assert read["h.0.attn.qkv.weight"].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(weights.model)
    loss.backward()
    weights.collect()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_they_are_not_in_6_N(small):
    """One channel of one more state: its matrices are counted, its filters not."""
    narrow, wide = (
        count(meta_model(small(**{**HYBRID, "MAMBA2_STATE": N}).model))
        for N in ("6", "7")
    )
    E = narrow.width
    biases = 2
    more = wide.flops_per_token - narrow.flops_per_token
    assert more == 6 * (2 * E + biases) + 6 * 2 * 2 * E
    assert wide.parameters - narrow.parameters == 2 * E + biases + 2 * 4


@pytest.mark.slow
def test_a_hybrid_compiles_to_the_same_loss(small):
    """Not only traced: what torch.compile makes of it on a CPU."""
    model = built(small(GPT2_LAYERS="2", **HYBRID))
    loss = loss_of(model)
    loss.backward()
    eager = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    again = loss_of(compiled)
    again.backward()
    assert torch.allclose(loss, again)
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, eager[name], rtol=1e-3, atol=1e-6), name


def test_a_matrix_may_say_that_it_is_no_product(small, monkeypatch):
    model = built(small())
    assert "h.0.attn.o.weight" in products(model)
    listed = [
        Matrix(m.name, m.parameter, m.std, product=not m.name.endswith("0.attn.o"))
        for m in model.matrices()
    ]
    monkeypatch.setattr(model, "matrices", lambda: iter(listed))
    assert "h.0.attn.o.weight" not in products(model)


# -- laws


def test_uniform_numbers_are_a_function_of_the_arguments_within_0_and_1():
    u = uniform(1, "", "h.0.attn.A_log", (4096,))
    assert u.dtype == np.float64 and 0 < u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.02 and np.unique(u).size > 4000
    assert np.array_equal(u, uniform(1, "", "h.0.attn.A_log", (4096,)))
    others = [(2, "", "h.0.attn.A_log"), (1, "a", "h.0.attn.A_log"), (1, "", "h.1")]
    assert not any(np.array_equal(u, uniform(*key, (4096,))) for key in others)


def test_quantiles_at_the_ends_and_the_middle():
    u = np.array([0.0, 0.5, 1.0])
    assert np.allclose(taps(u), [-0.5, 0.0, 0.5])
    assert np.allclose(np.exp(log_rate(1.0)(u)), [1, 8.5, 16])
    assert np.allclose(np.exp(log_rate(0.0)(u[1:])), [8, 16])
    step = np.logaddexp(0, step_offset(u))
    assert np.allclose(step, [0.001, 0.01, 0.1])


CONSTANT = {
    "zero": lambda u: 0 * u,
    "one value": lambda u: 0 * u + 1.0,
    "out of its ends": lambda u: 4 * u,
    "half of its range": lambda u: np.log(1 + 7.5 * u),
    "the logarithm uniform": lambda u: np.log(16) * u,
}


@pytest.mark.parametrize("law", CONSTANT)
def test_a_law_that_is_another_is_seen(resolve, monkeypatch, law):
    """A that starts at zero, or anywhere but at ln U(1, 16), breaks the proof."""
    from gpt2.settings.run import run_settings

    run = run_settings(resolve(MIXER_MAMBA2="y"))
    drawn = Mamba2.initial_laws

    def other(self, prefix):
        for each in drawn(self, prefix):
            wrong = each.name.endswith("A_log")
            yield (
                InitialLaw(each.name, each.parameter, CONSTANT[law]) if wrong else each
            )

    monkeypatch.setattr(Mamba2, "initial_laws", other)
    with pytest.raises(Broken, match="A_log.* law"):
        initial_values(Subject("", run, run, {}))


@pytest.mark.parametrize("name", ["conv_x", "dt_offset"])
def test_a_law_that_never_arrives_is_seen(resolve, monkeypatch, name):
    """Zeros of a constructor that nothing fills."""
    from gpt2.settings.run import run_settings

    run = run_settings(resolve(MIXER_MAMBA2="y"))
    filled = InitialLaw.fill

    def fill(self, seed, salt):
        if not self.name.endswith(name):
            filled(self, seed, salt)

    monkeypatch.setattr(InitialLaw, "fill", fill)
    with pytest.raises(Broken, match=f"{name}.* law"):
        initial_values(Subject("", run, run, {}))


def test_a_law_of_what_is_called_bias_is_kept(small, monkeypatch):
    """Biases start at zero where no law says more."""
    model = GPT(small().model)
    bias = model.h[0].attn.o.bias
    laws = [*model.initial_laws(), InitialLaw("b", bias, lambda u: 1 + u)]
    monkeypatch.setattr(model, "initial_laws", lambda: iter(laws))
    initialise(model, 1)
    assert bias.min() > 1 and not model.h[1].attn.o.bias.any()
