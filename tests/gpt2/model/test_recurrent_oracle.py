"""Every recurrent mixer against loops over its formula, in float64.

Legend: tests/oracles/recurrence/op.py.
"""

import math

import numpy as np
import pytest
import torch

from gpt2.model.block import build_mixer
from gpt2.model.gpt import GPT
from gpt2.model.initial import STD, Matrix, initialise, products, residual_std, uniform
from gpt2.model.values import BlockToBlock, Positions
from tests.oracles.recurrence import shapes
from tests.oracles.recurrence.mixers import MIXERS

B, T, H, D, N = 2, 21, 2, 4, 3
E = H * D
CLOSE = 1e-9
ONES, ZEROS = ("norm", "D_skip"), ("decay_offset",)
every_mixer = pytest.mark.parametrize("kind", MIXERS)


def symbols_of(kind, **symbols):
    """A model of this mixer, with biases unless said."""
    sizes = {"GPT2_WIDTH": str(E), "GPT2_HEADS": str(H), "GPT2_BIAS": "y"}
    if kind == "mamba2":
        sizes["MAMBA2_STATE"] = str(N)
    return {f"MIXER_{kind.upper()}": "y", **sizes, **symbols}


@pytest.fixture
def build(small):
    """layer = build(kind): in float64, no parameter where it starts."""

    def make(kind, **symbols):
        model = small(**symbols_of(kind, **symbols)).model
        layer = build_mixer(model, 0, "reference").double()
        stream = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0, 0.4, generator=stream)
            for name, values in logical(layer).items():
                values.add_(1.0 if name in ONES else 0.0)
        return layer

    return make


def logical(layer):
    """Every parameter by its logical name: of a fused one the rows that are its, of a
    bias the rows of its matrix.
    """
    named = dict(layer.named_parameters())
    holders = {id(parameter): name for name, parameter in named.items()}
    found = {}
    for place in [*layer.matrices("attn"), *layer.initial_laws("attn")]:
        name, holder = place.name.removeprefix("attn."), holders[id(place.parameter)]
        rows = place.rows if isinstance(place, Matrix) else None
        rows = slice(None) if rows is None else rows
        found[name] = place.parameter[rows]
        bias = named.get(holder.removesuffix(".weight") + ".bias")
        if bias is not None:
            found[f"{name}.bias"] = bias[rows]
    values = sum(parameter.numel() for parameter in named.values())
    assert sum(tensor.numel() for tensor in found.values()) == values
    return found


def documents():
    """starts_BT: a document of one token, ones longer and shorter than a filter."""
    starts_BT = torch.zeros(B, T, dtype=torch.int32)
    for b, cuts in enumerate([(6, 7, 9), (2, 16)]):
        for cut in cuts:
            starts_BT[b, cut:] = cut
    return starts_BT


def tokens(seed=8):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, E, generator=stream, dtype=torch.float64)


def by_oracle(kind, layer, x_BTE, starts_BT=None):
    weights = logical(layer)
    rows = [None] * B if starts_BT is None else starts_BT.tolist()
    return torch.stack(
        [MIXERS[kind](x, weights, H, row) for x, row in zip(x_BTE, rows, strict=True)]
    )


def with_gradients(y_BTE, inputs):
    """y, and the gradients of a sum of it that weighs each value otherwise."""
    weights = 1 + torch.cos(torch.arange(y_BTE.numel()).double())
    return [y_BTE, *torch.autograd.grad((y_BTE.flatten() * weights).sum(), inputs)]


def assert_close(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() <= CLOSE * theirs.abs().max()


@every_mixer
@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
def test_a_mixer_is_the_oracle(build, kind, packed):
    """y, and the gradients of x and of every parameter."""
    layer, x = build(kind), tokens().requires_grad_()
    starts_BT = documents() if packed else None
    inputs = [x, *layer.parameters()]
    y, _, cache = layer(x, BlockToBlock(), Positions(0, starts_BT), None)
    assert cache is None
    wanted = with_gradients(by_oracle(kind, layer, x, starts_BT), inputs)
    assert_close(with_gradients(y, inputs), wanted)


@every_mixer
def test_small_heads_are_scaled_as_the_oracle_scales(build, kind):
    """Where heads are as small as the root of its epsilon, a norm hides no factor."""
    layer, x = build(kind, GPT2_BIAS="n"), 0.02 * tokens()
    y, _, _ = layer(x, BlockToBlock(), Positions(), None)
    assert_close([y], [by_oracle(kind, layer, x)])


@every_mixer
@pytest.mark.parametrize("size", [1, 5, 16])
def test_any_chunk_is_the_oracle(build, kind, size):
    """Of rows that hold documents."""
    layer, x, starts_BT = build(kind), tokens(), documents()
    layer.chunk = size
    with torch.no_grad():
        y, _, _ = layer(x, BlockToBlock(), Positions(0, starts_BT), None)
        assert_close([y], [by_oracle(kind, layer, x, starts_BT)])


@every_mixer
@pytest.mark.parametrize("steps", [[1] * T, [5, 1, 2, 1, 1, 3, 8], [1, 20], [17, 4]])
def test_a_decode_is_the_oracle(build, kind, steps):
    """Token by token, and in parts longer and shorter than a filter."""
    layer, x, start = build(kind), tokens(), 0
    cache, outputs = layer.empty_cache(x[:, :0]), []
    with torch.no_grad():
        for n in steps:
            part = x[:, start : start + n]
            y, _, cache = layer(part, BlockToBlock(), Positions(start), cache)
            outputs.append(y)
            start += n
        assert_close([torch.cat(outputs, dim=1)], [by_oracle(kind, layer, x)])


@every_mixer
def test_a_cache_is_a_value(build, kind):
    """What goes on from it twice does so from the same place."""
    layer, x = build(kind), tokens()
    with torch.no_grad():
        first = Positions(), layer.empty_cache(x[:, :0])
        _, _, cache = layer(x[:, :5], BlockToBlock(), *first)
        kept = [tensor.clone() for tensor in cache.tensors()]
        once, _, _ = layer(x[:, 5:], BlockToBlock(), Positions(5), cache)
        again, _, _ = layer(x[:, 5:], BlockToBlock(), Positions(5), cache)
    assert torch.equal(once, again)
    assert all(map(torch.equal, kept, cache.tensors()))


@every_mixer
def test_a_state_is_fp32_under_autocast(build, kind):
    """Not only by its type: no more than a few of its values have so few digits that
    bf16 holds them.
    """
    layer, x = build(kind).float(), tokens().float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cache = layer.empty_cache(x[:, :0])
        for t in range(T):
            part = x[:, t : t + 1]
            _, _, cache = layer(part, BlockToBlock(), Positions(t), cache)
    state = cache.tensors()[0]
    assert state.dtype == torch.float32
    assert (state != state.bfloat16().float()).float().mean() > 0.9


@every_mixer
def test_filters_are_no_products(small, kind):
    """Decay, pruning and Muon act on its matrices, on every one, and on nothing else."""
    model = GPT(small(**symbols_of(kind)).model)
    named = {name: p for name, p in products(model).items() if ".attn." in name}
    matrices = {id(matrix.parameter) for matrix in model.matrices()}
    assert {id(p) for p in named.values()} <= matrices
    assert not any("conv" in name for name in named)
    assert sum(p.numel() for p in named.values()) == sum(
        matrix.data.numel() for matrix in model.matrices() if ".attn." in matrix.name
    )


@every_mixer
def test_other_documents_change_no_bit(build, kind):
    """fp32, in every document what lies in the others is 1000 times as large."""
    layer, x, starts_BT = build(kind).float(), tokens().float(), documents()
    positions = Positions(0, starts_BT)
    with torch.no_grad():
        y, _, _ = layer(x, BlockToBlock(), positions, None)
        for b, first in ((0, 7), (0, 9), (1, 2), (1, 16)):
            inside_T = starts_BT[b] == first
            other = 1000 * x + 1
            other[b, inside_T] = x[b, inside_T]
            moved, _, _ = layer(other, BlockToBlock(), positions, None)
            assert torch.equal(moved[b, inside_T], y[b, inside_T])


@every_mixer
def test_the_gate_of_the_mlp_scales_normed_heads(build, kind):
    """γ of every head, of Mamba-2's 2H heads of two at a time: with W_o linear, y is the
    sum of γ_h times what head h gives.
    """
    layer, x = build(kind, GPT2_BIAS="n"), tokens()
    gates = torch.rand(B, T, H, dtype=torch.float64)
    alone_H = torch.eye(H, dtype=torch.float64)
    with torch.no_grad():
        whole, _, _ = layer(x, BlockToBlock(gates), Positions(), None)
        parts = [
            layer(x, BlockToBlock(one.expand(B, T, H)), Positions(), None)[0]
            for one in alone_H
        ]
        assert_close([sum(parts)], [by_oracle(kind, layer, x)])
    wanted = sum(gates[..., h, None] * part for h, part in enumerate(parts))
    assert_close([whole], [wanted])


@every_mixer
def test_what_it_is_made_of_and_costs(build, kind):
    layer = build(kind, GPT2_BIAS="n")
    held = sum(parameter.numel() for parameter in layer.parameters())
    sizes = logical(layer)
    r = len(sizes["decay_down"]) if kind == "gla" else 0
    assert held == shapes.parameters(kind, E, H, N, r)
    wanted = shapes.shapes_of(kind, E, H, N, False, r)
    assert {name: tuple(x.shape) for name, x in sizes.items()} == wanted
    kept, cost = layer.cache_size(1000), layer.products(1000)
    assert kept.fp32 == shapes.state(kind, E, H, N)
    assert kept.values == shapes.tail(kind, E, N)
    assert 6 * cost.full == 6 * cost.causal == shapes.flops(kind, E, H, N)


@every_mixer
def test_it_shares_attentions_names_and_values(small, kind):
    """q, k, v and o begin as attention's do; Mamba-2 has o, of another shape."""
    found = []
    for symbols in ({"GPT2_WIDTH": str(E), "GPT2_HEADS": str(H)}, symbols_of(kind)):
        model = GPT(small(**symbols).model)
        initialise(model, 5)
        found.append({matrix.name: matrix.data for matrix in model.matrices()})
    attention, ours = found
    shared = [name for name in ("q", "k", "v", "o") if f"h.1.attn.{name}" in ours]
    assert shared == (["o"] if kind == "mamba2" else ["q", "k", "v", "o"])
    for name in (f"h.1.attn.{name}" for name in shared if kind != "mamba2"):
        assert torch.equal(attention[name], ours[name])


LAWS = {
    "A_log": {"mamba2": "A_mamba2", "gdn": "A_gdn"},
    "dt_offset": {"mamba2": "dt_offset", "gdn": "dt_offset"},
    "conv_": dict.fromkeys(("mamba2", "gdn", "deltanet"), "conv"),
}


@every_mixer
def test_where_it_starts(small, kind):
    """Laws: the distribution function gives back the uniform numbers that were drawn, and
    these are even at 1 % (Kolmogorov and Smirnov). Norms and skips at 1, biases and the
    offset of GLA's decay at 0.
    """
    heads = {"GPT2_HEADS": "16", "GPT2_WIDTH": "64", "GPT2_LAYERS": "4"}
    model = GPT(small(**symbols_of(kind, **heads)).model)
    initialise(model, 3)
    held = [logical(block.attn) for block in model.h]
    for name in held[0]:
        values = torch.cat([weights[name].detach().flatten() for weights in held])
        law = next((LAWS[key] for key in LAWS if name.startswith(key)), {})
        if name in ONES:
            assert (values == 1).all()
        elif name in ZEROS or name.endswith(".bias"):
            assert (values == 0).all()
        elif kind in law:
            shares = shapes.share_below(law[kind], values.double())
            drawn = [
                uniform(3, "", f"h.{i}.attn.{name}", tuple(weights[name].shape))
                for i, weights in enumerate(held)
            ]
            wanted = torch.from_numpy(np.stack(drawn)).flatten()
            assert torch.allclose(shares, wanted, rtol=0, atol=1e-5)
            even = (torch.arange(len(shares)) + 0.5) / len(shares)
            distance = (shares.sort().values - even).abs().max()
            assert distance < 1.63 / math.sqrt(len(shares))
        else:
            std = residual_std(4) if name == "o" else STD
            assert 0.8 * std < values.std() < 1.25 * std
