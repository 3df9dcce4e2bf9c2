"""A step in one pass is the step by torch's own operations."""

from dataclasses import replace

import pytest
import torch

from gpt2 import optim, pruning
from gpt2.distributed.ddp import DataParallel
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.training import update
from kconf.bind import SettingsError


class Training:
    """A small model with everything that takes its steps."""

    def __init__(self, settings, micro_batches=1):
        self.settings = settings
        self.model = GPT(settings.model)
        initialise(self.model, 1)
        shared = DataParallel(self.model, param_dtype=settings.system.param_dtype)
        self.optimizer = optim.build(self.model, settings.optim)
        self.weights = shared.weights
        self.pruner = pruning.build(
            self.model, self.optimizer, settings.pruning, settings.optim
        )
        self.micro_batches = micro_batches
        self.update = update.build(
            settings.optim, self.optimizer, shared, self.pruner, micro_batches
        )

    def run(self, steps):
        """The norms of so many steps, 5 of every 10 with new masks."""
        stream, norms = torch.Generator().manual_seed(3), []
        shape = (2, self.settings.model.block_size + 1)
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-2
            for _ in range(self.micro_batches):
                rows = torch.randint(
                    0, self.settings.model.vocab_size, shape, generator=stream
                )
                low = self.settings.system.dtype == "bf16"
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    loss = self.weights.model(rows[:, :-1], rows[:, 1:])
                (loss * 30).backward()
                self.update.collect()
            norms.append(self.update.step().item())
            masked = False
            if self.pruner is not None:
                masked = self.pruner.after_step(step + 1, (step + 1) / steps)
            self.update.refresh(masked)
        return norms


# A key has no bias to learn: its gradient is rounding, which Adam would magnify.
NOISELESS = {"ADAM_EPS": "1e-5"}
PRUNED = {"PRUNING_MAGNITUDE": "y", "PRUNING_START": "0.1", "PRUNING_FREQUENCY": "2"}
MOVED = {**PRUNED, "PRUNING_MAGNITUDE": "n", "PRUNING_MOVEMENT": "y"}
STATE = {**PRUNED, "PRUNING_MAGNITUDE": "n", "PRUNING_STATE": "y"}


@pytest.mark.parametrize("kind", ["ADAMW", "ADAMWSPAM"])
@pytest.mark.parametrize("extra", [{}, PRUNED, MOVED, STATE], ids=len)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_one_pass_is_the_steps_one_by_one(small, kind, extra, micro_batches):
    """Over fp32 weights to the last bits, clipped at every step."""
    symbols = {f"OPTIMIZER_{kind}": "y", "GRAD_CLIP": "0.5", **NOISELESS, **extra}
    plain = Training(small(**symbols, UPDATE_TORCH="y"), micro_batches)
    fast = Training(small(**symbols, UPDATE_ONE_PASS="y"), micro_batches)
    assert type(plain.update) is update.Update and type(fast.update) is update.OnePass
    wanted = plain.run(10)
    assert fast.run(10) == pytest.approx(wanted, rel=1e-4) and min(wanted) > 0.5
    for (name, mine), theirs in zip(
        fast.model.named_parameters(), plain.model.parameters()
    ):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5), name
        if extra and name in fast.pruner.masks:
            assert fast.pruner.pruned and not mine[fast.pruner.masks[name]].any()


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_bf16_copies_follow_the_weights(small, micro_batches):
    """With one micro-batch their gradients are read as they are; masks too."""
    symbols = {"DTYPE_BF16": "y", "PARAM_DTYPE_BF16": "y", **NOISELESS, **PRUNED}
    plain = Training(small(**symbols, UPDATE_TORCH="y"), micro_batches)
    fast = Training(small(**symbols, UPDATE_ONE_PASS="y"), micro_batches)
    assert fast.update.direct == (micro_batches == 1)
    assert fast.run(8) == pytest.approx(plain.run(8), rel=0.02)
    for mine, theirs in zip(fast.weights.pairs, plain.weights.pairs):
        assert torch.equal(mine[1], mine[0].to(torch.bfloat16))
        assert torch.allclose(mine[0], theirs[0], rtol=0.05, atol=0.03)
        assert mine[1].grad is None and mine[0].grad is None


def test_movement_collects_what_it_scores(small):
    fast = Training(small(**MOVED, UPDATE_ONE_PASS="y"))
    assert not fast.update.direct
    fast.run(4)
    assert any(score.any() for score in fast.pruner.scores.values())


def test_a_missing_gradient_is_named(small):
    fast = Training(small(UPDATE_ONE_PASS="y"))
    with pytest.raises(RuntimeError, match=r"shape \(.*\) has no gradient"):
        fast.update.step()


def test_who_takes_the_steps(small):
    """auto is torch on a CPU; on a GPU AdamW goes in one pass, SGD by torch."""
    chosen = small().optim
    assert optim.resolve_update(chosen, "cpu") == "torch"
    assert optim.resolve_update(chosen, "cuda") == "one_pass"
    assert optim.resolve_update(small(OPTIMIZER_SGD="y").optim, "cuda") == "torch"
    named = small(UPDATE_ONE_PASS="y")
    assert optim.resolve_update(named.optim, "cpu") == "one_pass"
    with pytest.raises(SettingsError, match="sgd's step is torch's alone"):
        sgd = replace(small(OPTIMIZER_SGD="y").optim, update="one_pass")
        optim.build(GPT(small().model), sgd)
