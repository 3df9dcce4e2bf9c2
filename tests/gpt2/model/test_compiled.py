"""What is compiled, whole or block by block: the losses and gradients of the eager
model, one graph of every kind of block, and no step without a graph.
"""

import pytest
import torch

from gpt2.distributed.build import build
from gpt2.model import compiled, precision
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from tests.gpt2.model.test_mechanisms import randomised

STEPS = {
    "documents": (2, {"DOCUMENTS_APART": "y", "POSITION_ROPE": "y"}),
    "ra": (3, {"RA": "y", "MLP_ATTN_GATE": "y", "RA_CT": "y"}),
    "latent": (3, {"MLA": "y", "MLP_CROSS_TOKEN": "y", "MLP_LATENT_RECIP": "y"}),
    "hybrid": (3, {"MIXER_LAYERS": "linear attention"}),
}
"""Kinds of blocks among five, and the symbols."""


@pytest.fixture
def graphs(monkeypatch):
    """torch.compile by dynamo and autograd alone; what it has compiled."""
    torch._dynamo.reset()
    compile, made = torch.compile, []

    def backend(graph, inputs):
        made.append(graph)
        return graph

    def traced(function, **options):
        assert options == {"fullgraph": True, "dynamic": False}
        return compile(function, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", traced)
    with torch._dynamo.config.patch(recompile_limit=8):
        yield made
    torch._dynamo.reset()


def network(small, dtype="fp32", **symbols):
    symbols = {"GPT2_LAYERS": "5", "GPT2_BLOCK_SIZE": "16", **symbols}
    settings = small(**symbols)
    model = GPT(settings.model)
    initialise(model, 1)
    return precision.build(randomised(model, 4).float(), dtype).model.train()


def batch(model):
    tokens_BT = torch.randint(
        0, 257, (2, 16), generator=torch.Generator().manual_seed(3)
    )
    if not model.settings.documents_apart:
        return tokens_BT, tokens_BT.roll(1, 1), None
    starts_BT = (torch.arange(16, dtype=torch.int32) // 5 * 5).expand(2, 16)
    return tokens_BT, tokens_BT.roll(1, 1), starts_BT


def gradients(forward, model, given):
    model.zero_grad()
    low = model.wte.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = forward(*given)
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


@pytest.mark.parametrize(
    "step, dtype", [*((step, "fp32") for step in STEPS), ("ra", "bf16")]
)
def test_block_by_block(small, graphs, step, dtype):
    """Five layers take the graphs of their kinds, and nothing differs in a bit."""
    kinds, symbols = STEPS[step]
    model = network(small, dtype, **symbols)
    given = batch(model)
    eager = gradients(model, model, given)
    found = gradients(compiled.compiled(model, blockwise=True), model, given)
    assert found[0] == eager[0]
    assert found[1].keys() == eager[1].keys()
    for name, grad in eager[1].items():
        assert torch.equal(found[1][name], grad), name
    assert len(graphs) == 2 + kinds


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    "symbols, kind",
    [
        ({}, GPT),
        ({"GPT2_COMPILE": "y"}, torch._dynamo.OptimizedModule),
        ({"GPT2_COMPILE": "y", "GPT2_COMPILE_BLOCKS": "y"}, compiled.Blockwise),
    ],
)
def test_what_trains_is_what_is_asked_for(small, symbols, kind):
    settings = small(**symbols)
    assert type(build(settings, GPT(settings.model)).forward) is kind


@pytest.mark.parametrize("blockwise", [False, True])
def test_a_break_is_an_error(small, graphs, blockwise, monkeypatch):
    model = network(small)
    forward, whole = compiled.compiled(model, blockwise), type(model.h[0].mlp).forward

    def broken(self, *given):
        torch._dynamo.graph_break()
        return whole(self, *given)

    monkeypatch.setattr(type(model.h[0].mlp), "forward", broken)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        forward(*batch(model))


@pytest.mark.parametrize("blockwise", [False, True])
def test_a_graph_too_many_is_an_error(small, graphs, blockwise):
    """Not an eager step; and a second shape makes no symbolic graph."""
    model = network(small, GPT2_LAYERS="1")
    tokens_BT, targets_BT, _ = batch(model)
    forward = compiled.compiled(model, blockwise)
    with torch._dynamo.config.patch(recompile_limit=2):
        for T in (16, 12):
            forward(tokens_BT[:, :T], targets_BT[:, :T])
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            forward(tokens_BT[:, :8], targets_BT[:, :8])
    symbols = [n.meta.get("example_value") for g in graphs for n in g.graph.nodes]
    shapes = [each.shape for each in symbols if isinstance(each, torch.Tensor)]
    assert shapes and all(type(size) is int for shape in shapes for size in shape)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", ["0", "0.5"])
def test_kernels_of_blocks(small, dropout):
    """By inductor: the gradient is the loss's slope, with dropout's masks drawn again;
    without, the eager gradient.
    """
    torch._dynamo.reset()
    model = network(small, GPT2_LAYERS="4", GPT2_DROPOUT=dropout).double()
    given, forward = batch(model), compiled.compiled(model, blockwise=True)

    def loss():
        torch.manual_seed(5)
        return forward(*given)

    value, grads = gradients(lambda *_: loss(), model, given)
    if dropout == "0":
        expected, eager = gradients(model, model, given)
        assert value == pytest.approx(expected, rel=1e-12)
        for name, grad in eager.items():
            torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)
    step, parameters = 1e-6, dict(model.named_parameters())
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(sign * step * grads[name] * (1 if sign > 0 else 2))
        slopes.append(loss().item())
    square = sum(grad.square().sum().item() for grad in grads.values())
    assert (slopes[0] - slopes[1]) / (2 * step) == pytest.approx(square, rel=1e-5)
