"""Decay acts on the blocks' matrices; the schedule is the formula."""

import math

import pytest
import torch

from gpt2 import optim
from gpt2.init import initialise
from gpt2.model import GPT


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


def test_the_step_is_torchs_adamw(small):
    """Bit-equal to torch.optim.AdamW over the same groups."""
    settings = small(ADAM_BETA2="0.99", ADAM_EPS="1e-6")
    ours, plain = GPT(settings.model), GPT(settings.model)
    for model in (ours, plain):
        initialise(model, 1)
    decayed = [p for n, p in plain.named_parameters() if n[:2] == "h." and p.dim() > 1]
    rest = [p for n, p in plain.named_parameters() if n[:2] != "h." or p.dim() < 2]
    theirs = torch.optim.AdamW(
        [{"params": decayed}, {"params": rest, "weight_decay": 0.0}],
        lr=settings.optim.lr,
        betas=(0.9, 0.99),
        eps=1e-6,
        weight_decay=0.1,
        fused=True,
    )
    mine = optim.build(ours, settings.optim)
    for step in range(3):
        tokens = torch.randint(0, 257, (2, 17), generator=torch.manual_seed(step))
        for model, optimizer in ((ours, mine), (plain, theirs)):
            optimizer.zero_grad()
            model(tokens[:, :-1], tokens[:, 1:]).backward()
            optimizer.step()
    for (name, p), q in zip(ours.named_parameters(), plain.parameters()):
        assert torch.equal(p, q), name


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
