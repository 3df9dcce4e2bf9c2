"""Native sparse attention against query by query loops, with every option."""

import pytest
import torch

from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers.nsa.nsa import Nsa
from gpt2.model.values import BlockToBlock, Positions
from kernels.nsa import reference
from tests.gpt2.model.test_linear import assert_same
from tests.gpt2.model.test_mechanisms import randomised
from tests.oracles.nsa.decode import Decoder
from tests.oracles.nsa.layer import forward
from tests.oracles.nsa.options import Options

T, CHUNKS = 17, (1, 5, 3, 8)
NSA = {"MIXER_NSA": "y", "KV_HEADS": "2", "GPT2_BLOCK_SIZE": "32", "GPT2_LAYERS": "1"}
NSA |= {"NSA_LENGTH": "2", "NSA_STRIDE": "1", "NSA_BLOCK": "4", "NSA_TOP": "3"}
NSA |= {"NSA_WINDOW": "5"}
ROPE = {"POSITION_ROPE": "y", "ROPE_BASE": "100"}
SHARED = {"NSA_SHARED_KV": "y"}
MLP = {"NSA_PHI_MLP": "y", "NSA_PHI_RANK": "3"}
CASES = {
    "paper": {},
    "rope": {**ROPE, "NSA_LENGTH": "4", "NSA_STRIDE": "2", "NSA_BLOCK": "4"},
    "no bias": {"GPT2_BIAS": "n", "NSA_STRIDE": "2"},
    "all groups": {"KV_HEADS": "4", "NSA_GATE_SIGMOID": "y"},
    "one group": {"KV_HEADS": "1", "NSA_CHOICE_PER_HEAD": "y"},
    "conv": {"NSA_PHI_CONV": "y", **ROPE, "NSA_LENGTH": "4", "NSA_STRIDE": "2"},
    "conv after": {"NSA_PHI_CONV": "y", **ROPE, "NSA_PHI_ROPE_AFTER": "y"},
    "mlp": {**MLP, "NSA_GATE_FIXED": "y"},
    "mlp rope": {**MLP, **ROPE, **SHARED, "NSA_LENGTH": "4", "NSA_STRIDE": "2"},
    "mean unrotated": {**ROPE, "NSA_PHI_ROPE_NONE": "y", "NSA_FORCED_BLOCKS": "n"},
    "free": {"NSA_FORCED_BLOCKS": "n", "NSA_TOP": "1"},
    "shared": {**SHARED, **ROPE},
    "cmp sel": {"NSA_BRANCHES_CMP_SEL": "y", "NSA_GATE_SIGMOID": "y"},
    "cmp win": {"NSA_BRANCHES_CMP_WIN": "y", **SHARED},
    "sel win": {**SHARED, "NSA_BRANCHES_SEL_WIN": "y"},
    "cmp": {"NSA_BRANCHES_CMP": "y", **ROPE},
    "sel": {**SHARED, "NSA_BRANCHES_SEL": "y", **ROPE, "NSA_PHI_ROPE_AFTER": "y"},
    "win": {"NSA_BRANCHES_WIN": "y", **ROPE},
    "forced win": {"NSA_FORCE_BRANCH_WIN": "y"},
}


def built(small, case):
    model = small(**{**NSA, **CASES[case]}).model
    return randomised(Nsa(model), 1), model


def options_of(layer, model):
    """The oracle's, of a model's settings."""
    asked, (l, d, b, n, w) = model.of("nsa"), layer.spec[:5]
    heads = {"H": model.heads, "G": layer.projection.kv_heads}
    heads |= dict.fromkeys(("d_k", "d_v"), model.head_width)
    sizes = {"E": model.embed, "l": l, "d": d, "b": b, "n": n, "w": w}
    named = {"phi": asked.phi, "gate": asked.gate, "shared": asked.shared_kv}
    if asked.phi_rank:
        named["phi_hidden"] = asked.rank(model)
    return Options(
        **heads,
        **sizes,
        **named,
        branches=asked.branches,
        rope_base=model.rope_base,
        phi_rope=asked.phi_rotation,
        forced=asked.forced or "sel" not in asked.branches,
        per_head=asked.per_head,
        force_branch=asked.force_branch,
        bias=model.bias,
    )


def weights_of(layer, options):
    """The module's parameters by the oracle's names, still the module's."""
    made, l, D = layer.projection, options.l, options.d_k
    found = {"q": made.q.weight, "o": layer.o.weight}
    found |= {"q.bias": made.q.bias, "o.bias": layer.o.bias}
    for pair in made.pairs:
        name = "" if pair == "shared" else f"_{pair}"
        found[f"k{name}"], found[f"v{name}"] = made.k[pair].weight, made.v[pair].weight
        found[f"k{name}.bias"] = torch.zeros(options.G * D, dtype=torch.float64)
        found[f"v{name}.bias"] = made.v[pair].bias
    for kind, part in made.phi.items():
        if options.phi == "conv":
            found[f"phi_{kind}.w"] = part.weight_lD.view(l, D)
        if options.phi == "mlp":
            found[f"phi_{kind}.pe"] = part.place_lD.view(l, D)
            found[f"phi_{kind}.w1"] = part.inner.weight.view(-1, l, D)
            found[f"phi_{kind}.w2"] = part.outer.weight
    if options.gate == "sigmoid":
        shape = options.H, len(options.branches)
        found["gate.w"] = layer.gate.outer.weight.view(*shape, options.E)
        found["gate.b"] = layer.gate.outer.bias.view(*shape)
    elif options.gate == "softmax" and layer.gate is not None:
        for i, part in (("1", layer.gate.inner), ("2", layer.gate.outer)):
            found[f"gate.w{i}"], found[f"gate.b{i}"] = part.weight, part.bias
    return found


def drawn(model, seed=0):
    """So small that no softmax is one block alone: that block would be half of two
    selection blocks, and rounding would choose between them.
    """
    torch.manual_seed(seed)
    x = 0.5 * torch.randn(1, T, model.embed, dtype=torch.float64)
    return x.requires_grad_()


WHOLE = pytest.param(None, id="whole", marks=pytest.mark.slow)
PACKED = pytest.param([0, 0, 0] + [3] * 14, id="documents")
READ = ("rope", "one group", "mlp rope", "free", "sel win")


@pytest.mark.parametrize("starts", [WHOLE, PACKED])
@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_oracle(small, monkeypatch, case, starts):
    """Output and every gradient; some queries at a time, computed again for backward."""
    layer, model = built(small, case)
    monkeypatch.setitem(reference.AT_ONCE, "cpu", 1 << 12)
    monkeypatch.setattr(reference, "KEPT", 0)
    options, x = options_of(layer, model), drawn(model)
    starts_BT = None if starts is None else torch.tensor([starts], dtype=torch.int32)
    y, _, _ = layer(x, BlockToBlock(), Positions(0, starts_BT), None)
    wanted = forward(x[0], weights_of(layer, options), options, starts)
    assert_same([y[0]], [wanted.y_TE], layer, [x])


@pytest.mark.parametrize(
    "case",
    [c if c in READ else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
)
def test_a_decode_equals_the_oracles(small, case):
    """Token by token: outputs, and the keys that it says it has read."""
    layer, model = built(small, case)
    options, x = options_of(layer, model), drawn(model)
    decoder, cache = Decoder(weights_of(layer, options), options), None
    with torch.no_grad():
        cache = layer.empty_cache(x)
        for t in range(T):
            before = cache.reads_B3
            now = x[:, t : t + 1]
            y, _, cache = layer(now, BlockToBlock(), Positions(t), cache)
            wanted = decoder.step(x[0, t])
            assert torch.allclose(y[0, 0], wanted, rtol=1e-9, atol=1e-11), t
            counted = decoder.reads[-1]
            reads = (counted.cmp, counted.sel, counted.win)
            means = [sum(row) / len(row) if row else 0.0 for row in reads]
            assert (cache.reads_B3 - before)[0].tolist() == pytest.approx(means), t


@pytest.mark.parametrize("case", CASES)
def test_a_decode_in_chunks_equals_the_forward(small, case):
    """And the cache holds what is counted, after every chunk."""
    layer, model = built(small, case)
    x, rows, start = drawn(model).detach(), [], 0
    with torch.no_grad():
        whole, _, _ = layer(x, BlockToBlock(), Positions(), None)
        cache = layer.empty_cache(x)
        for now in x.split(CHUNKS, dim=1):
            y, _, cache = layer(now, BlockToBlock(), Positions(start), cache)
            rows.append(y)
            start += now.shape[1]
            held = sum(tensor.numel() for tensor in cache.tensors())
            assert held == layer.cache_size(start).total
    found = torch.cat(rows, dim=1)
    assert torch.allclose(found, whole, rtol=1e-9, atol=1e-11)


def test_a_branch_that_is_forced_leaves_the_others_without_gradient(small):
    layer, model = built(small, "forced win")
    x = drawn(model)
    layer(x, BlockToBlock(), Positions(), None)[0].square().sum().backward()
    silent = {n for n, p in layer.named_parameters() if not p.grad.abs().max()}
    names = {n for n, _ in layer.named_parameters() if ".cmp." in n or ".sel." in n}
    assert silent == names | {n for n, _ in layer.named_parameters() if "gate" in n}


def test_it_begins_with_the_values_of_grouped_attention(small):
    """Shared keys and values have attention's names; so have q and o in any case."""
    found = []
    for symbols in ({"GQA": "y", "KV_HEADS": "2"}, {**NSA, **SHARED}, NSA):
        model = GPT(small(**{**symbols, "GPT2_LAYERS": "1"}).model)
        initialise(model, 5)
        found.append({m.name: m.data for m in model.matrices() if "attn" in m.name})
    dense, shared, apart = found
    assert all(torch.equal(dense[n], shared[n]) for n in dense)
    assert {*dense} & {*apart} == {"h.0.attn.q", "h.0.attn.o"}
    assert torch.equal(dense["h.0.attn.q"], apart["h.0.attn.q"])
