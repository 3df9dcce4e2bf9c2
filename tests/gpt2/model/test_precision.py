"""Training on a bf16 copy of fp32 weights."""

import json

import pytest
import torch

from gpt2 import optim
from gpt2.model import precision
from gpt2.model.block import Block
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import run_settings
from gpt2.training.trainer import Diverged, Trainer
from kconf.bind import SettingsError
from tests.conftest import SMALL

BF16 = {"DTYPE_BF16": "y", "PARAM_DTYPE_BF16": "y"}
EVERYTHING = {"MLA": "y", "RA": "y", "RA_LEARNED": "y", "RA_CT": "y"}
EVERYTHING |= {"MLP_ATTN_GATE": "y", "MLP_CROSS_TOKEN": "y"}
EVERYTHING |= {"OUTPUT_GATE_ELEMENTWISE": "y", "MLP_LATENT_RECIP": "y"}


def settings(resolve, *layers, **symbols):
    return run_settings(resolve(SMALL, *layers, **symbols))


def built(chosen):
    model = GPT(chosen.model)
    initialise(model, 1, "")
    return model, precision.build(model, chosen.system.param_dtype)


def loss_of(weights, chosen, seed):
    stream = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 64, (4, chosen.model.block_size + 1), generator=stream)
    with torch.autocast("cpu", torch.bfloat16):
        return weights.model(rows[:, :-1], rows[:, 1:])


def test_without_it_the_model_trains_itself(resolve):
    model, weights = built(settings(resolve))
    assert weights.model is model


def test_what_is_copied(resolve):
    model, weights = built(settings(resolve, BF16, EVERYTHING))
    masters = dict(model.named_parameters())
    for name, p in weights.model.named_parameters():
        if "norm" in name or name.endswith("_H"):
            assert p is masters[name], name
        else:
            assert p.dtype == torch.bfloat16, name
            assert torch.equal(p, masters[name].bfloat16())
    assert all(p.dtype == torch.float32 for p in masters.values())


def test_the_residual_stream_is_bf16(resolve, monkeypatch):
    _, weights = built(settings(resolve, BF16, EVERYTHING))
    seen, forward = [], Block.forward

    def watched(*given, **named):
        out = forward(*given, **named)
        seen.extend(term.dtype for term in out[:2])
        return out

    monkeypatch.setattr(Block, "forward", watched)
    loss_of(weights, settings(resolve, BF16, EVERYTHING), 0)
    assert set(seen) == {torch.bfloat16}


def test_gradients_add_up_in_fp32(resolve):
    chosen = settings(resolve, BF16, EVERYTHING)
    model, weights = built(chosen)
    singly = []
    for seed in (1, 2, 3):
        loss_of(weights, chosen, seed).backward()
        weights.collect()
        singly.append([p.grad for p in model.parameters()])
        model.zero_grad()
    for seed in (1, 2, 3):
        loss_of(weights, chosen, seed).backward()
        weights.collect()
    for p, *parts in zip(model.parameters(), *singly):
        torch.testing.assert_close(p.grad, parts[0] + parts[1] + parts[2])
    assert all(q.grad is None for q in weights.model.parameters() if q.dim() > 1)


def test_the_copy_follows_a_step(resolve):
    chosen = settings(resolve, BF16)
    model, weights = built(chosen)
    optimizer = optim.build(model, chosen.optim)
    loss_of(weights, chosen, 1).backward()
    weights.collect()
    optimizer.step()
    stale = [q.clone() for q in weights.model.parameters()]
    weights.refresh()
    moved = [not torch.equal(a, b) for a, b in zip(stale, weights.model.parameters())]
    assert any(moved)
    for (_, p), q in zip(model.named_parameters(), weights.model.parameters()):
        assert torch.equal(p.to(q.dtype), q)


def curve(chosen, kind, dtype):
    """Losses of 200 steps."""
    model = GPT(chosen.model)
    initialise(model, 1, "")
    model.to(kind)
    weights = precision.build(model, chosen.system.param_dtype)
    optimizer = optim.build(model, chosen.optim)
    losses = []
    for step in range(200):
        rows = batch(chosen, step).to(kind)
        with torch.autocast(kind, torch.bfloat16, enabled=dtype != "fp32"):
            loss = weights.model(rows[:, :-1], rows[:, 1:])
        loss.backward()
        weights.collect()
        optimizer.step()
        optimizer.zero_grad()
        weights.refresh()
        losses.append(loss.detach())
    return torch.stack(losses).cpu()


def batch(chosen, step):
    """Learnable rows: an arithmetic walk from a random start."""
    stream = torch.Generator().manual_seed(step)
    start = torch.randint(0, 64, (8, 1), generator=stream)
    stride = torch.randint(1, 4, (8, 1), generator=stream)
    return (start + stride * torch.arange(chosen.model.block_size + 1)) % 64


def the_same(fp32, cast, copy):
    """The distance of `copy` to fp32 is no more than a few times what autocast's is."""
    assert fp32[-1] < fp32[0] - 0.3
    noise = (cast - fp32).square().mean().sqrt()
    distance = (copy - fp32).square().mean().sqrt()
    assert distance < 4 * noise + 1e-3, (distance, noise)
    tail = slice(150, None)
    assert abs(copy[tail].mean() - fp32[tail].mean()) < 0.01


@pytest.mark.slow
def test_the_same_curve_to_bf16_noise(resolve):
    curves = [
        curve(settings(resolve, extra, LEARNING_RATE="1e-3"), "cpu", name)
        for name, extra in (("fp32", {}), ("cast", {"DTYPE_BF16": "y"}), ("copy", BF16))
    ]
    the_same(*curves)


LARGER = {"GPT2_WIDTH": "256", "GPT2_BLOCK_SIZE": "200", "MLP_DIM": "1024"}
LARGER |= {"GPT2_LAYERS": "4", "LEARNING_RATE": "1e-3"}
PLAINLY = {"ATTENTION_IMPL_REFERENCE": "y", "LOSS_PLAIN": "y"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "mechanisms",
    [{}, {"RA": "y", "MLP_CROSS_TOKEN": "y"}, {"MLA": "y", "SOFTPICK": "y"}],
    ids=lambda mechanisms: "-".join(mechanisms) or "plain",
)
def test_the_same_curve_by_the_kernels(resolve, mechanisms):
    """Everything in fp32 by plain formulas; bf16 from fp32 weights, where norms and
    GELU are kernels; and with attention, the loss and the stream fast as well.
    """
    curves = [
        curve(settings(resolve, LARGER, mechanisms, extra), "cuda", name)
        for name, extra in (
            ("fp32", PLAINLY),
            ("cast", PLAINLY | {"DTYPE_BF16": "y"}),
            ("copy", BF16),
        )
    ]
    the_same(*curves)


def test_it_needs_bf16_products(resolve):
    values = resolve(SMALL)
    values |= {"PARAM_DTYPE_FP32": False, "PARAM_DTYPE_BF16": True}
    with pytest.raises(SettingsError, match="CONFIG_DTYPE_BF16"):
        run_settings(values)


def test_a_run_resumes_exactly(cell, train, monkeypatch):
    """Half a run, then the rest, is the run: the copy is made from the master."""
    whole, halves = cell("whole", **BF16), cell("halves", **BF16)
    assert train(whole).returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", failing_at(12, Trainer._step))
        assert train(halves).returncode == 1
    resumed = train(halves)
    assert "resumed at step 10" in resumed.stdout, resumed.stderr
    ends = [json.loads((d / "summary.json").read_text()) for d in (whole, halves)]
    assert ends[0]["model_sha256"] == ends[1]["model_sha256"]
    assert ends[0]["facts"]["param_dtype"] == "bf16"


def failing_at(step, plain):
    def run(trainer, batches):
        if trainer.progress.step == step:
            raise Diverged("on purpose", step)
        plain(trainer, batches)

    return run
