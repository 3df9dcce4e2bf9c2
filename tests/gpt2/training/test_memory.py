"""Bytes of a training: the estimate, and what a checkpoint holds."""

import pytest
import torch

from gpt2 import optim, pruning
from gpt2.distributed.ddp import DataParallel
from gpt2.model.costs import activation_bytes
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.live_bytes import peak_bytes
from gpt2.model.values import Positions
from gpt2.training import checkpoint
from gpt2.training.config_costs import costs
from gpt2.training.memory import memory_estimate
from kernels.nsa import reference
from matrix.plan import forecast


def test_the_memory_estimate_counts_what_autograd_saves(small):
    """Against the bytes that a real forward pass keeps alive."""
    settings = small(GPT2_BLOCK_SIZE="64", GPT2_WIDTH="64", MLP_DIM="256")
    model = GPT(settings.model)
    initialise(model, 1)
    tokens = torch.randint(0, 257, (8, 64))
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(tokens, tokens)
    saved = sum(kept.values())
    del loss
    state = 16 * sum(p.numel() for p in model.parameters())
    logits = 8 * 64 * 320 * 8
    assert memory_estimate(settings, 8) == pytest.approx(
        state + saved + logits, rel=0.03
    )


def test_the_memory_estimate_counts_what_is_made_again(small, monkeypatch):
    """Against the peak of a real step: the layers gather again in the backward pass."""
    monkeypatch.setitem(reference.AT_ONCE, "cpu", 1 << 22)
    sizes = {"NSA_LENGTH": "8", "NSA_STRIDE": "4", "NSA_BLOCK": "16", "NSA_TOP": "6"}
    sizes |= {"NSA_WINDOW": "64", "KV_HEADS": "2", "GPT2_BLOCK_SIZE": "512"}
    settings = small(MIXER_NSA="y", DEVICE_CPU="y", GPT2_LAYERS="2", **sizes)
    model, tokens = GPT(settings.model), torch.randint(0, 257, (4, 512))
    initialise(model, 1)
    peak = peak_bytes(lambda: model(tokens, tokens).backward())
    estimate = activation_bytes(settings, 4)
    assert 0.98 * peak < estimate < 1.2 * peak
    parts = [
        block.attn.recomputed_bytes(_normed(model, tokens), "cpu") for block in model.h
    ]
    assert parts[0] == parts[1] > estimate / 2


def _normed(model, tokens):
    with torch.no_grad():
        return model.h[0].norm1(model.embed(tokens, Positions()))


def test_bytes_that_live_together():
    one = torch.zeros(1000)

    def run():
        made = one + 1
        view = made[:5]
        one.add_(1)
        del made
        twice = view * 2
        del view
        return torch.cat([twice, one])

    assert peak_bytes(run) == max(4000 + 20, 20 + 4 * 1005)


def test_the_memory_estimate_is_linear_in_the_micro_batch(small):
    one, two, four = (memory_estimate(small(), n) for n in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.05)
    assert two > one


def test_bf16_needs_less(small):
    assert memory_estimate(small(DTYPE_BF16="y"), 64) < memory_estimate(small(), 64)


@pytest.mark.parametrize(
    "symbols",
    [
        {"OPTIMIZER_SGD": "y"},
        {"OPTIMIZER_SGD": "y", "SGD_MOMENTUM": "0"},
        {"OPTIMIZER_ADAM": "y", "PRUNING_STATE": "y"},
        {"OPTIMIZER_ADAMWADV": "y", "PRUNING_MAGNITUDE": "y"},
        {"OPTIMIZER_MUON": "y", "PRUNING_MOVEMENT": "y"},
        {"OPTIMIZER_ADAMWSPAM": "y", "PRUNING_MOVEMENT": "y"},
    ],
)
def test_optimizer_state_and_masks_are_in_the_estimate(small, symbols):
    """To the byte, but for the step counters that torch keeps as tensors."""
    plain, settings = small(), small(**symbols)
    held = []
    for found in (plain, settings):
        model = GPT(found.model)
        optimizer = optim.build(model, found.optim)
        pruner = pruning.build(model, optimizer, found.pruning, found.optim)
        tokens = torch.randint(0, 257, (2, 17))
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        state = [
            v for s in optimizer.state.values() for k, v in s.items() if k != "step"
        ]
        tensors = [v for v in state if v is not None]
        if pruner is not None:
            tensors += [t for kind in pruner.state().values() for t in kind.values()]
        held.append(sum(t.numel() * t.element_size() for t in tensors))
    estimates = [memory_estimate(found, 2) for found in (plain, settings)]
    assert estimates[1] - estimates[0] == held[1] - held[0]


METHODS = ("none", "magnitude", "movement", "state")
WITHOUT_MOMENTS = ("sgd", "muon")
PAIRS = [
    (optimizer, method)
    for optimizer in optim.kinds()
    for method in METHODS
    if method != "state" or optimizer not in WITHOUT_MOMENTS
]


@pytest.mark.parametrize("optimizer, method", PAIRS)
def test_a_checkpoint_is_as_large_as_foretold(small, tmp_path, optimizer, method):
    """A real one, after a step: never larger, and no number of a weight too many."""
    symbols = {f"OPTIMIZER_{optimizer.upper()}": "y", f"PRUNING_{method.upper()}": "y"}
    settings = small(**symbols, GPT2_WIDTH="128", GPT2_HEADS="4")
    model = GPT(settings.model)
    initialise(model, 1, "")
    rule = optim.build(model, settings.optim)
    pruner = pruning.build(model, rule, settings.pruning, settings.optim)
    model(*torch.zeros(2, 1, 8, dtype=torch.long)).backward()
    rule.step()
    shared, progress = DataParallel(model), checkpoint.Progress()
    path = checkpoint.save(tmp_path, "0" * 64, progress, shared, rule, pruner)
    chosen = [f"OPTIMIZER_{kind.upper()}" for kind in optim.kinds()]
    chosen += [f"PRUNING_{kind.upper()}" for kind in METHODS]
    values = {symbol: symbol in symbols for symbol in chosen}
    told = forecast.checkpoint_bytes(values, costs(settings.model))
    assert 0 <= told - path.stat().st_size <= forecast.BESIDES
