"""Linear attention against loops over its formula, and what it keeps."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.model.costs import count, meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers.linear import LinearAttention
from gpt2.model.values import BlockToBlock, Positions
from tests.gpt2.model.test_mechanisms import randomised
from tests.oracles import attention as attention_oracle
from tests.oracles.recurrence import linear as oracle

LINEAR = {"MIXER_LINEAR": "y"}
few = settings(max_examples=4, deadline=None)


def gradients(loss, module, inputs):
    named = dict(module.named_parameters())
    found = torch.autograd.grad(
        loss, [*inputs, *named.values()], allow_unused=True, retain_graph=True
    )
    return dict(zip([*range(len(inputs)), *named], found))


def assert_same(ours, theirs, module, inputs):
    """Outputs and all gradients of a random projection of them agree."""
    weights = [torch.randn_like(tensor) for tensor in ours]
    losses = []
    for outputs in (ours, theirs):
        losses.append(sum((a * w).sum() for a, w in zip(outputs, weights)))
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11), (a - b).abs().max()
    mine = gradients(losses[0], module, inputs)
    wanted = gradients(losses[1], module, inputs)
    for name, grad in wanted.items():
        if grad is None:
            assert mine[name] is None or not mine[name].abs().max() > 1e-12, name
        else:
            assert torch.allclose(mine[name], grad, rtol=1e-7, atol=1e-9), name


class Shape(NamedTuple):
    """Batch, tokens, heads, head width."""

    B: int
    T: int
    H: int
    D: int

    def random(self, *sizes, draw=torch.randn):
        """A float64 input (B, T, …) that wants its gradient."""
        return draw(self.B, self.T, *sizes, dtype=torch.float64, requires_grad=True)

    @property
    def symbols(self):
        """The model's widths."""
        return {"GPT2_WIDTH": str(self.H * self.D), "GPT2_HEADS": str(self.H)}

    @property
    def documents(self):
        """starts_BT: every sequence cut at other places, int32."""
        t_T = torch.arange(self.T, dtype=torch.int32)
        opens_BT = torch.rand(self.B, self.T) < 0.4
        return torch.where(opens_BT, t_T, 0).cummax(dim=1).values


shapes = st.builds(
    Shape,
    st.integers(1, 3),
    st.integers(1, 7),
    st.sampled_from([2, 4, 6]),
    st.sampled_from([4, 6, 8]),
)


def linear(x, layer):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def by_oracle(layer, model, x, context, starts):
    """y from the module's own weights."""
    qkv = linear(x, layer.qkv).unflatten(2, (3, model.heads, model.head_width))
    o = oracle.linear_attention(*qkv.unbind(2), starts)
    if context.gate_BnH is not None:
        o = o * context.gate_BnH[..., None]
    if model.output_gate != "none":
        headwise = model.output_gate == "headwise"
        weight = layer.out_gate.linear.weight
        o = attention_oracle.output_gate(o, x, weight, headwise)
    return linear(o.flatten(2), layer.o)


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
@pytest.mark.parametrize("gate", ["NONE", "ELEMENTWISE", "HEADWISE"])
@few
@given(shapes, st.sampled_from(["y", "n"]), st.integers(0, 99))
def test_it_equals_the_oracle(small, gate, packed, shape, bias, seed):
    symbols = {f"OUTPUT_GATE_{gate}": "y", "GPT2_BIAS": bias, **LINEAR}
    model = small(**symbols, **shape.symbols).model
    layer = randomised(LinearAttention(model), seed)
    torch.manual_seed(seed)
    x, gates = shape.random(shape.H * shape.D), shape.random(shape.H, draw=torch.rand)
    context, starts = BlockToBlock(gates), shape.documents if packed else None
    y, given, cache = layer(x, context, Positions(0, starts), None)
    assert cache is None and set(given) == {None}
    wanted = by_oracle(layer, model, x, context, starts)
    assert_same([y], [wanted], layer, [x, gates])


def test_it_begins_with_the_values_of_attention(small):
    """The same names, the same numbers: q, k, v, o and everything else."""
    found = []
    for symbols in ({}, LINEAR):
        model = GPT(small(GPT2_LAYERS="3", **symbols).model)
        initialise(model, 5)
        found.append({matrix.name: matrix.data for matrix in model.matrices()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_it_costs(tree):
    """At GPT-2's size, by hand: 6 N, 12 E D per layer, D (D + 1) values per head."""
    from gpt2.settings.run import run_settings
    from kconf.study import list_steps
    from tests.conftest import ROOT

    base = ROOT / "defconfigs" / "gpt2-mixer-ablation"
    step = list_steps(ROOT, "gpt2-mixer-ablation")[1]
    settings = run_settings(tree.resolve([base, step.stage]).values).model
    facts = count(meta_model(settings))
    E, D, H, layers, T = 768, 64, 12, 12, 1024
    assert facts.flops_per_token == 6 * (facts.parameters - T * E) + 12 * E * D * layers
    assert facts.flops_per_token_causal == facts.flops_per_token
    assert facts.cache_constant == layers * H * D * (D + 1)
    assert (facts.cache_per_token, facts.mixers) == (0, "linear")


def test_the_state_is_fp32_under_autocast(small):
    """bf16 holds 256 + 1 as 256."""
    model = GPT(small(**LINEAR).model).eval()
    tokens = torch.zeros(1, 9, dtype=torch.long)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, cache = model.decode(tokens)
    (state,) = cache.layers[0].mixer.tensors()
    assert state.dtype == torch.float32
    assert (state[0, :, 0, -1] > 0).all()


def test_features_that_are_all_zero_give_zero(small):
    """Below -104 e^x is 0 in fp32: the sum of the weights is 0, the output too."""
    layer = LinearAttention(small(GPT2_BIAS="n", **LINEAR).model)
    with torch.no_grad():
        layer.qkv.weight.fill_(-1.0)
        x = torch.full((1, 3, layer.o.in_features), 1e3)
        y, _, _ = layer(x, BlockToBlock(), Positions(), None)
    assert torch.equal(y, torch.zeros_like(y))
