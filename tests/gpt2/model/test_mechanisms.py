"""Every mechanism and option against oracles written as loops over the formula.

The oracles (tests/oracles/) were written from the formulas alone and share no
code with the modules. Everything in float64: forward and every gradient.
"""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.model.initial import Matrix
from gpt2.model.mixers.attention.attention import Attention
from gpt2.model.mlp.cross_token import route
from gpt2.model.mlp.latent import orthonormal
from gpt2.model.mlp.mlp import Mlp
from gpt2.model.values import BlockToBlock, MixerToMlp
from kernels import attention as ops
from tests.oracles import attention as oracle
from tests.oracles import mlp as mlp_oracle

CT = {"RA_CT": "y", "RA_CT_K": "2"}
MLA = {"MLA": "y", "MLA_LATENT": "8"}
RA = {"RA": "y", "RA_BAND": "2"}
CASES = {
    "plain": {"ATTENTION_IMPL_REFERENCE": "y"},
    "sdpa": {"ATTENTION_IMPL_SDPA": "y"},
    "sdpa-sliding": {"ATTENTION_IMPL_SDPA": "y", "SLIDING": "y", "WINDOW": "3"},
    "sdpa-gqa": {"ATTENTION_IMPL_SDPA": "y", "GQA": "y", "KV_HEADS": "2"},
    "gqa-ra": {"GQA": "y", "KV_HEADS": "2", **RA},
    "rope": {"POSITION_ROPE": "y", "ROPE_BASE": "100"},
    "rope-gqa-ra": {"POSITION_ROPE": "y", "GQA": "y", "KV_HEADS": "1", **RA},
    "no-bias": {"GPT2_BIAS": "n", **RA},
    "ra": RA,
    "ra-wide-band": {"RA": "y", "RA_BAND": "64"},
    "ra-band-0": {"RA": "y", "RA_BAND": "0"},
    "ra-negative": {**RA, "RA_ALPHA": "-0.5"},
    "ra-learned": {**RA, "RA_LEARNED": "y"},
    "ra-sliding": {**RA, "SLIDING": "y", "WINDOW": "2"},
    "softpick": {"SOFTPICK": "y"},
    "softpick-unsafe": {"SOFTPICK": "y", "SOFTPICK_UNSAFE": "y"},
    "softpick-sliding-ra": {"SOFTPICK": "y", "SLIDING": "y", "WINDOW": "3", **RA},
    "mla": MLA,
    "mla-shared-latent": {**MLA, "MLA_SHARED_LATENT": "y"},
    "mla-shared-up": {**MLA, "MLA_SHARED_UP": "y"},
    "mla-ra": {**MLA, **RA},
    "gate-elementwise": {"OUTPUT_GATE_ELEMENTWISE": "y"},
    "gate-headwise": {"OUTPUT_GATE_HEADWISE": "y"},
    "ct-topk-softpick": {**CT, "SOFTPICK": "y"},
    "ct-max-softpick-weights": {
        "RA_CT": "y",
        "SOFTPICK": "y",
        "RA_CT_MAX": "y",
        "RA_CT_WEIGHTS": "y",
    },
    "ct-detach": {**CT, "RA_CT_DETACH": "y"},
    "ct-average-weights": {**CT, "RA_CT_HEAD_AVERAGE": "y", "RA_CT_WEIGHTS": "y"},
    "ct-sliding": {**CT, "SLIDING": "y", "WINDOW": "3"},
    **{
        f"ct-{kind}-{apply}{'-average' if average == 'y' else ''}": {
            "RA_CT": "y",
            f"RA_CT_{kind.upper()}": "y",
            f"RA_CT_{apply.upper()}": "y",
            "RA_CT_HEAD_AVERAGE": average,
            **({"RA_CT_K": "2"} if kind == "topk" else {}),
        }
        for kind in ("topk", "max", "entropy", "rms")
        for apply in ("output", "weights")
        for average in ("n", "y")
    },
    "all": {**MLA, **RA, **CT, "OUTPUT_GATE_ELEMENTWISE": "y"},
}


def linear(x, layer):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def projected(layer, model, x, extra):
    """q, k, v by the oracles, from the module's own weights."""
    H, projection = model.heads, layer.projection
    if model.attention.projection == "mla":
        L, down = model.latent, projection.down.weight
        shared = model.attention.mla_shared_latent
        return oracle.mla(
            x,
            projection.q.weight,
            projection.q.bias,
            down[:L],
            None if shared else down[L:],
            projection.k_up.weight,
            projection.v_up.weight,
            H,
            ck_extra_BTL=extra,
        )[:3]
    D, G = model.head_width, model.kv_heads
    rows = linear(x, projection.qkv).unflatten(2, (-1, D))
    q, k, v = rows[:, :, :H], rows[:, :, H : H + G], rows[:, :, H + G :]
    if model.position == "rope":
        q, k = oracle.rope(q, model.rope_base), oracle.rope(k, model.rope_base)
    return q, k, v


def attended(layer, model, x, context, starts=None):
    """(y, final probabilities) of a whole attention, composed from oracles."""
    seen = {"window": model.attention.window, "starts_BT": starts}
    options = model.attention
    q, k, v = projected(layer, model, x, context.latent_BnL)
    ra = layer.ra
    S = oracle.scores(q, k, *(() if ra is None else (ra.alpha_H, ra.band)))

    def normalised(scores):
        if options.normaliser == "softmax":
            return oracle.softmax(scores, **seen)
        return oracle.softpick(scores, safe=not options.softpick_unsafe, **seen)

    p, o_gate = normalised(S), None
    if options.ra_ct:
        rows = p
        if options.ra_ct_head_average:
            rows = oracle.head_average(p)
        extra = {} if options.ra_ct_k is None else {"k": options.ra_ct_k}
        stat = oracle.statistic(rows, options.ra_ct_statistic, **seen, **extra)
        stat = stat.expand(-1, model.heads, -1)
        if options.ra_ct_detach:
            stat = stat.detach()
        g = oracle.gate(stat, layer.ra_ct.scale_H, layer.ra_ct.shift_H)
        if options.ra_ct_apply == "weights":
            p = normalised(oracle.ra_ct_weights(S, g, options.ra_ct_alpha))
        else:
            o_gate = g
    o = oracle.mix(p, v)
    if o_gate is not None:
        o = oracle.ra_ct_output(o, o_gate, options.ra_ct_alpha)
    if context.gate_BnH is not None:
        o = o * context.gate_BnH[..., None]
    if options.output_gate != "none":
        headwise = options.output_gate == "headwise"
        o = oracle.output_gate(o, x, layer.out_gate.linear.weight, headwise)
    return linear(o.flatten(2), layer.o), p


def randomised(module, seed):
    """The module in float64 with every parameter away from its start."""
    module = module.double()
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=stream, dtype=torch.float64)
            start = 0.3 * parameter if parameter.dim() == 1 else 0.0
            parameter.copy_(start + 0.4 * noise)
    return module


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
few = settings(max_examples=4, deadline=None)


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
@pytest.mark.parametrize("case", CASES)
@few
@given(shapes, st.integers(0, 99))
def test_attention_equals_the_oracle(small, case, packed, shape, seed):
    model = small(**CASES[case], **shape.symbols).model
    layer = randomised(Attention(model), seed)
    torch.manual_seed(seed)
    x = shape.random(shape.H * shape.D)
    gate = shape.random(shape.H, draw=torch.rand)
    context, inputs = BlockToBlock(gate), [x, gate]
    if model.latent is not None:
        latent = shape.random(model.latent)
        context, inputs = BlockToBlock(gate, latent), [x, gate, latent]
    starts = shape.documents if packed else None
    y, _, cache = layer(x, context, None, starts)
    assert cache is None
    assert_same([y], [attended(layer, model, x, context, starts)[0]], layer, inputs)


CROSS = {"MLP_CROSS_TOKEN": "y", "MLP_CROSS_TOKEN_RANK": "6"}
GATE = {"MLP_ATTN_GATE": "y", "MLP_ATTN_GATE_RANK": "6"}
LATENT = {**MLA, "MLP_LATENT_RECIP": "y"}
MLP_CASES = {
    "gelu": {},
    "swiglu": {"MLP_SWIGLU": "y"},
    "relu2": {"MLP_RELU2": "y"},
    "gate": GATE,
    "gate-alone": {**GATE, "MLP_ATTN_GATE_MEAN": "n"},
    "cross-topk": {**CROSS, "MLP_CROSS_TOKEN_K": "2"},
    "cross-none": {**CROSS, "MLP_CROSS_TOKEN_NONE": "y"},
    "cross-rms": {**CROSS, "MLP_CROSS_TOKEN_RMS": "y"},
    "cross-gradient": {
        **CROSS,
        "MLP_CROSS_TOKEN_K": "2",
        "MLP_CROSS_TOKEN_GRADIENT": "y",
    },
    "cross-rms-sliding": {
        **CROSS,
        "MLP_CROSS_TOKEN_RMS": "y",
        "MLP_CROSS_TOKEN_GRADIENT": "y",
        "SLIDING": "y",
        "WINDOW": "3",
    },
    "latent-untied": LATENT,
    "latent-tied": {**LATENT, "MLP_LATENT_TIED": "y"},
    "latent-scalar": {**LATENT, "MLP_LATENT_SCALAR": "y"},
    "all": {**GATE, **CROSS, **LATENT, "MLP_SWIGLU": "y"},
}


def mlp_by_oracles(mlp, model, x, p, ck, starts=None):
    """(y, gate factor, what the next latent gets) composed from oracles."""
    options = model.mlp
    if options.kind == "swiglu":
        pre, gate = linear(x, mlp.inner), linear(x, mlp.gate)
        h = torch.nn.functional.silu(gate) * pre
    elif options.kind == "relu2":
        h = mlp_oracle.relu2(linear(x, mlp.inner))
    else:
        h = mlp_oracle.gelu_tanh(linear(x, mlp.inner))
    hidden, factor, to_next = h, None, None
    if mlp.attn_gate is not None:
        gate = mlp.attn_gate
        gamma = mlp_oracle.attn_gate(
            h, gate.down.weight, gate.up.weight, options.attn_gate_mean, starts
        )
        factor = 1 - options.attn_gate_alpha + options.attn_gate_alpha * gamma
    if mlp.cross_token is not None:
        rows = p if options.cross_token_gradient else p.detach()
        extra = {"window": model.attention.window, "starts_BT": starts}
        if options.cross_token_k is not None:
            extra["k"] = options.cross_token_k
        if options.cross_token_tau is not None:
            extra["tau"] = options.cross_token_tau
        P = mlp_oracle.routing(rows, options.cross_token_mode, **extra)
        down, up = mlp.cross_token.down.weight, mlp.cross_token.up.weight
        added = mlp_oracle.cross_token(h, P, down, up, options.cross_token_alpha)
        hidden = hidden + added
    if mlp.latent is not None:
        latent, tying = mlp.latent, options.latent_tying
        weights = {
            "untied": lambda: (latent.read_FL, latent.write_FL.T),
            "tied_transpose": lambda: latent.read_FL,
            "per_head_scalar": lambda: (
                latent.basis_FL,
                latent.read_H,
                latent.write_H,
            ),
        }[tying]()
        to_h, to_next = mlp_oracle.latent_recip(
            h, ck, options.latent_alpha, tying, weights, model.heads
        )
        hidden = hidden + to_h
    return linear(hidden, mlp.outer), factor, to_next


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
@pytest.mark.parametrize("case", MLP_CASES)
@few
@given(shapes, st.sampled_from([8, 24, 31]), st.integers(0, 99))
def test_mlp_equals_the_oracle(small, case, packed, shape, width, seed):
    model = small(MLP_DIM=str(width), **MLP_CASES[case], **shape.symbols).model
    mlp = randomised(Mlp(model, last=False), seed)
    torch.manual_seed(seed)
    B, T, H, D = shape
    x, ck = shape.random(H * D), shape.random(8)
    scores = torch.randn(B, H, T, T, dtype=torch.float64, requires_grad=True)
    starts = shape.documents if packed else None
    p = oracle.softmax(scores, model.attention.window, starts)
    seen = torch.arange(1, T + 1) - (0 if starts is None else starts)
    seen = seen.clamp(max=model.attention.window or T)
    side = MixerToMlp(routing_BnS=p.mean(1), seen_n=seen, latent_BnL=ck)
    y, context, cache = mlp(x, side, 0, None, starts)
    assert cache is None
    wanted, factor, to_next = mlp_by_oracles(mlp, model, x, p, ck, starts)
    ours, theirs = [y], [wanted]
    for mine, other in ((context.gate_BnH, factor), (context.latent_BnL, to_next)):
        assert (mine is None) == (other is None)
        if other is not None:
            ours.append(mine)
            theirs.append(other)
    assert_same(ours, theirs, mlp, [x, ck, scores])


grouped = st.tuples(
    st.integers(1, 2), st.integers(1, 6), st.sampled_from([(1, 1), (2, 1), (4, 2)])
)


@settings(max_examples=25, deadline=None)
@given(grouped, st.integers(0, 6), st.integers(0, 99), st.sampled_from([1e-3, 1, 30]))
def test_ra_and_softpick_on_random_shapes(shape, band, seed, scale):
    B, T, (H, G) = shape
    torch.manual_seed(seed)
    q, k, v = (
        torch.randn(B, T, heads, 3, dtype=torch.float64, requires_grad=True)
        for heads in (H, G, G)
    )
    alpha = torch.randn(H, dtype=torch.float64, requires_grad=True)
    S = oracle.scores(q * scale, k, alpha, band)
    for kind in ("softmax", "softpick"):
        o, p = ops.attention(q * scale, k, v, alpha, band, kind)
        wanted = getattr(oracle, kind)(S)
        assert torch.allclose(p, wanted, rtol=1e-9, atol=1e-12)
        assert torch.allclose(o, oracle.mix(wanted, v), rtol=1e-9, atol=1e-11)
        weight = torch.randn_like(o)
        mine = torch.autograd.grad((o * weight).sum(), [q, k, v, alpha])
        theirs = torch.autograd.grad(
            (oracle.mix(wanted, v) * weight).sum(), [q, k, v, alpha], retain_graph=True
        )
        for a, b in zip(mine, theirs):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-8 * scale)


def test_ra_uses_the_key_of_t_and_the_query_of_s():
    """With q and k unit vectors that meet only as q_0 · k_1, RA alone hears it."""
    q = torch.zeros(1, 2, 1, 2)
    k = torch.zeros(1, 2, 1, 2)
    q[0, 0, 0, 0] = k[0, 1, 0, 0] = 1.0
    plain = ops.scores(q, k)[0, 0]
    transposed = ops.reciprocal(q, k, 2, 1)[0, 0]
    assert plain[1, 0] == 0 and transposed[1, 0] == pytest.approx(2**-0.5)
    assert transposed[0].abs().sum() == 0


def test_weights_and_output_gates_differ(small):
    torch.manual_seed(0)
    x = torch.randn(1, 6, 32)
    outputs = []
    for apply in ("RA_CT_OUTPUT", "RA_CT_WEIGHTS"):
        layer = Attention(small(RA_CT="y", **{apply: "y"}).model)
        torch.manual_seed(1)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        outputs.append(layer(x, BlockToBlock(), None)[0])
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e2, 1e4])
def test_softpick_at_every_scale(scale):
    """fp32 follows float64; never NaN; masked keys and zero rows are left out."""
    torch.manual_seed(0)
    s = scale * torch.randn(1, 2, 9, 9, dtype=torch.float64)
    for t in (4, 8):  # before a masked key, and without one
        s[0, 0, t] = -s[0, 0, t].abs()
    mask = ops.visible(9, 9, None, s.device)
    wide, narrow = s.clone().requires_grad_(), s.float().requires_grad_()
    p64, p32 = (ops.normalise(x, mask, "softpick") for x in (wide, narrow))
    assert torch.allclose(p32.double(), p64, rtol=1e-4, atol=1e-5)
    assert p64[0, 0, [4, 8]].abs().sum() == 0
    p32.square().sum().backward()
    assert torch.isfinite(narrow.grad).all()


@pytest.mark.parametrize("mode", ["none", "topk", "rms"])
def test_a_routing_row_of_zeros(mode):
    """Softpick may leave a token without any weight: it then hears nobody."""
    p = torch.tensor([[[0.0, 0.0, 0.0], [0.1, 0.3, 0.0]]], requires_grad=True)
    found = route(p, torch.tensor([3, 3]), mode, k=2, tau=0.5)
    assert found[0, 0].tolist() == [0.0, 0.0, 0.0]
    assert found[0, 1].sum().item() == pytest.approx(1)
    found.square().sum().backward()
    assert torch.isfinite(p.grad).all()


def test_the_basis_is_orthonormal_and_fixed():
    q = orthonormal(24, 8)
    assert torch.allclose(q.T @ q, torch.eye(8), atol=1e-6)
    assert torch.equal(q, orthonormal(24, 8))


def test_first_and_last_block(small):
    """The last block has no producer, and so no parameters of one."""
    model = small(**GATE, **LATENT).model
    inner, last = Mlp(model, last=False), Mlp(model, last=True)
    names = {n for n, _ in inner.named_parameters()} - {
        n for n, _ in last.named_parameters()
    }
    assert names == {"attn_gate.down.weight", "attn_gate.up.weight", "latent.write_FL"}


def test_matrices_are_named_by_logic(small):
    names = [
        m.name.split(".", 2)[2] for m in matrices(small, **GATE, **CROSS, **LATENT)
    ]
    assert names == [
        *("attn.q", "attn.k_down", "attn.v_down", "attn.k_up", "attn.v_up", "attn.o"),
        *("mlp.in", "mlp.out", "mlp.gate_down", "mlp.gate_up"),
        *("mlp.cross_down", "mlp.cross_up", "mlp.latent_read", "mlp.latent_write"),
    ]


def matrices(small, **symbols) -> list[Matrix]:
    from gpt2.model.gpt import GPT

    return list(GPT(small(**symbols).model).h[0].matrices("h.0"))
