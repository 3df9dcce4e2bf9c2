"""One rank by itself, the others played by a twin: what it sends, when, and back.

A twin has the same micro-batches, so that the sum over both ranks is twice the
rank's own and the mean is what one process computes, to the bit.
"""

import signal

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gpt2 import optim, pruning
from gpt2.distributed.ddp import DataParallel
from gpt2.distributed.distribution import RanksDiffer
from gpt2.distributed.ranks import Ranks
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.training import checkpoint
from gpt2.training.checkpoint import Progress
from gpt2.training.stop_signals import StopSignals
from gpt2.training.validation import evaluate

PAIR = Ranks(0, 0, 2)
BF16 = {"DTYPE_BF16": "y", "PARAM_DTYPE_BF16": "y"}
EVERYTHING = {"MLA": "y", "RA": "y", "RA_LEARNED": "y", "RA_CT": "y"}
MICRO_BATCHES = 3


@pytest.fixture
def twin(tmp_path, monkeypatch):
    """sent: the tensors that a rank sums with its twin, as they were."""
    sent = []

    def doubled(tensor, async_op):
        assert async_op
        sent.append(tensor.clone())
        tensor.mul_(2)
        done = torch.futures.Future()
        done.set_result([tensor])
        return type("Work", (), {"get_future": lambda self: done})()

    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    monkeypatch.setattr(dist, "all_reduce", doubled)
    yield sent
    monkeypatch.undo()
    dist.destroy_process_group()


def gradients(chosen, ranks, sent):
    """Of every parameter after the micro-batches of each of two steps, and how
    many tensors had been sent after each micro-batch.
    """
    model = GPT(chosen.model)
    initialise(model, 1, "")
    shared = DataParallel(model, ranks, chosen.system.param_dtype)
    weights = shared.weights
    found, counts = [], []
    for step in range(2):
        for number in range(1, MICRO_BATCHES + 1):
            stream = torch.Generator().manual_seed(10 * step + number)
            rows = torch.randint(0, 257, (2, 17), generator=stream)
            with shared.micro_batch(number == MICRO_BATCHES, weights.collect):
                with torch.autocast("cpu", torch.bfloat16, enabled=bool(weights.pairs)):
                    loss = shared.forward(rows[:, :-1], rows[:, 1:]) / MICRO_BATCHES
                loss.backward()
            counts.append(len(sent))
        found.append({n: p.grad.clone() for n, p in model.named_parameters()})
        model.zero_grad()
    assert all(copy.grad is None for _, copy in weights.pairs)
    return found, counts


@pytest.mark.parametrize("precision_of", [{}, BF16], ids=["fp32", "bf16 copy"])
def test_the_mean_over_ranks_is_the_gradient(small, twin, precision_of):
    chosen = small(**EVERYTHING, **precision_of)
    alone, none = gradients(chosen, Ranks(), twin)
    assert none == [0] * 2 * MICRO_BATCHES
    paired, counts = gradients(chosen, PAIR, twin)
    for one, two in zip(alone, paired, strict=True):
        for name in one:
            assert two[name].dtype == torch.float32
            assert torch.equal(one[name], two[name]), name
    per_step = counts[MICRO_BATCHES - 1]
    assert per_step > 0, "nothing is sent"
    assert counts == [0, 0, per_step, per_step, per_step, 2 * per_step]
    assert {tensor.dtype for tensor in twin} == {torch.float32}
    elements = sum(gradient.numel() for gradient in alone[0].values())
    assert sum(tensor.numel() for tensor in twin) == 2 * elements


def test_ranks_share_the_windows_of_an_evaluation(small, monkeypatch):
    """Each takes its part, and their sum is the whole, in the order of one."""
    model = GPT(small().model)
    initialise(model, 1)
    windows = np.random.default_rng(0).integers(0, 257, (11, 17))
    autocast = torch.autocast("cpu", enabled=False)

    def loss(ranks):
        return evaluate(model, windows, 2, 1.0, "cpu", autocast, ranks=ranks).loss

    whole, parts = loss(Ranks()), []
    monkeypatch.setattr(Ranks, "sum_", lambda self, part: parts.append(part) or part)
    for rank in range(3):
        loss(Ranks(rank, rank, 3))
    assert all(((part != 0).sum(), len(part)) == (2, 6) for part in parts)
    monkeypatch.setattr(Ranks, "sum_", lambda self, part: sum(parts))
    assert loss(Ranks(1, 1, 3)) == whole


def test_each_rank_gets_its_own_generators_back(small, tmp_path, monkeypatch):
    model = GPT(small().model)
    optimizer = optim.build(model, small().optim)
    theirs = torch.Generator().manual_seed(99).get_state()
    monkeypatch.setattr(Ranks, "gather", lambda self, mine: [mine, {"cpu": theirs}])
    monkeypatch.setattr(Ranks, "barrier", lambda self: None)
    shared = DataParallel(model)
    shared.ranks = PAIR
    checkpoint.save(tmp_path, "id", Progress(step=1), shared, optimizer, None)
    monkeypatch.undo()
    shared.ranks = Ranks(1, 1, 1)
    before = torch.get_rng_state()
    try:
        checkpoint.resume(tmp_path, "id", shared, optimizer, None)
        assert torch.equal(torch.get_rng_state(), theirs)
    finally:
        torch.set_rng_state(before)


def test_a_rank_that_is_not_the_first_writes_no_checkpoint(
    small, tmp_path, monkeypatch
):
    model = GPT(small().model)
    monkeypatch.setattr(Ranks, "gather", lambda self, mine: [mine, mine])
    monkeypatch.setattr(Ranks, "barrier", lambda self: None)
    optimizer = optim.build(model, small().optim)
    folder, shared = tmp_path / "checkpoint", DataParallel(model)
    shared.ranks = Ranks(1, 1, 2)
    checkpoint.save(folder, "id", Progress(step=1), shared, optimizer, None)
    assert not folder.exists()


def test_a_signal_to_another_rank_is_one_to_this(monkeypatch):
    stop = StopSignals(PAIR)
    monkeypatch.setattr(Ranks, "maximum", lambda self, mine: max(mine, 15))
    assert stop.requested() and stop.number == 15


def test_a_signal_while_the_ranks_talk_is_kept(monkeypatch):
    """It counts from the next talk on, when every rank hears of it."""

    def during(self, mine):
        if not mine:
            signal.raise_signal(signal.SIGTERM)
        return mine

    monkeypatch.setattr(Ranks, "maximum", during)
    with StopSignals(PAIR) as stop:
        assert not stop.requested() and stop.number == 0
        assert stop.requested() and stop.number == signal.SIGTERM


def test_masks_are_compared_too(small, monkeypatch):
    chosen = small(PRUNING_MAGNITUDE="y")
    model = GPT(chosen.model)
    initialise(model, 1)
    optimizer = optim.build(model, chosen.optim)
    pruner = pruning.build(model, optimizer, chosen.pruning, chosen.optim)
    ours = []
    monkeypatch.setattr(Ranks, "gather", lambda self, sums: ours.append(sums) or [sums])
    shared = DataParallel(model)
    shared.ranks = PAIR
    shared.require_same(pruner, 1)
    name = next(iter(pruner.masks))
    pruner.masks[name][1, 2] = True
    monkeypatch.setattr(Ranks, "gather", lambda self, sums: [ours[0], sums])
    with pytest.raises(RanksDiffer, match=f"^masks.{name} of rank 1"):
        shared.require_same(pruner, 1)
