"""The loop against a loop of plain torch, evaluation against a sum by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpt2.data.loading.batch import Batch
from gpt2.data.loading.corpus import Corpus
from gpt2.data.loading.loader import micro_batch
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import run_settings
from gpt2.training.validation import evaluate
from kconf import config_py


def rate(optim, step, total):
    """Warm-up and cosine, as docs say."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / (optim.warmup + 1)
    x = (step - optim.warmup) / (total - optim.warmup)
    return optim.min_lr + (optim.lr - optim.min_lr) * (1 + math.cos(math.pi * x)) / 2


def test_a_run_is_a_loop_of_torch(cell, train, corpus):
    """Rates, clipping, targets, decay: the same weights, written out once more."""
    directory = cell(GRAD_CLIP="0.05", BATCH_SIZE="2", EFFECTIVE_BATCH="4")
    assert train(directory).returncode == 0
    settings = run_settings(config_py.read(directory / "config.py").values)
    optim, total = settings.optim, settings.train.max_iters
    model = GPT(settings.model)
    initialise(model, settings.train.seed, settings.train.init_salt)
    named = dict(model.named_parameters())
    decays = {n for n, p in named.items() if n.startswith("h.") and p.dim() == 2}
    moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in named.items()}
    windows = Corpus(settings, corpus).windows
    for step in range(total):
        cuts = [windows.rows(micro_batch(2 * step + i, 2, 2)) for i in (0, 1)]
        rows = torch.as_tensor(np.concatenate(cuts))
        logits = model(rows[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in named.values()))
        assert norm > 0.05
        lr = rate(optim, step, total)
        for name, p in named.items():
            g, (m, v) = p.grad * 0.05 / norm, moments[name]
            m.mul_(optim.beta1).add_((1 - optim.beta1) * g)
            v.mul_(optim.beta2).add_((1 - optim.beta2) * g * g)
            m_hat = m / (1 - optim.beta1 ** (step + 1))
            v_hat = v / (1 - optim.beta2 ** (step + 1))
            kept = 1 - lr * optim.weight_decay if name in decays else 1.0
            p.data = kept * p.data - lr * m_hat / (v_hat.sqrt() + optim.eps)
            p.grad = None
    trained = torch.load(directory / "checkpoint" / "model.pt")["model"]
    start = GPT(settings.model)
    initialise(start, settings.train.seed, settings.train.init_salt)
    for (name, p), q in zip(model.named_parameters(), start.parameters()):
        moved = (p - q).abs().max().item()
        assert (trained[name] - p).abs().max().item() < 0.02 * moved, name


def test_batches_from_the_middle(small, corpus):
    """A resumed run gets the batches that come next, not the first ones."""
    packed, sizes = Corpus(small(), corpus), Batch(2, 2, 1)
    whole = list(packed.batches(sizes, "cpu", 0, 6))
    for step, rest in zip(whole[3:], packed.batches(sizes, "cpu", 3, 6), strict=True):
        for (a, b, _), (c, d, _) in zip(step, rest, strict=True):
            assert torch.equal(a, c) and torch.equal(b, d)


def test_evaluation_by_hand(small):
    """The mean over all windows, without dropout, of the next token's loss."""
    model = GPT(small(GPT2_DROPOUT="0.5").model)
    initialise(model, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    windows = np.random.default_rng(0).integers(0, 257, (10, 17))
    found = evaluate(
        model.train(), windows, 4, 1.0, "cpu", torch.autocast("cpu", enabled=False)
    )
    assert model.training
    total = 0.0
    with torch.no_grad():
        for row in torch.as_tensor(windows):
            p_TV = model.eval()(row[None, :-1])[0].double().softmax(-1)
            total -= sum(math.log(p_TV[t, row[t + 1]]) for t in range(16)) / 16
    assert found.loss == pytest.approx(total / 10, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(total / 10), rel=1e-4)
    assert found.bits_per_byte == pytest.approx(total / 10 / math.log(2), rel=1e-5)
