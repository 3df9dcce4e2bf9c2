"""What mechanisms do at their edges, and the options that other tests go through.

Every option is held against its formula in tests/gpt2/check/test_formulas.py.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.model.initial import Matrix
from gpt2.model.mixers.attention.attention import Attention
from gpt2.model.mlp.cross_token import route
from gpt2.model.mlp.latent import orthonormal
from gpt2.model.mlp.mlp import Mlp
from gpt2.model.values import BlockToBlock, Positions
from kernels import attention as ops
from tests.oracles import attention as oracle

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
        spec = ops.AttentionSpec(kind, alpha=alpha, band=band)
        o, p = ops.attention(q * scale, k, v, spec)
        scaled = spec._replace(scale=scale / math.sqrt(3))
        assert torch.allclose(p, ops.attention(q, k, v, scaled)[1], rtol=1e-9)
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
        outputs.append(layer(x, BlockToBlock(), Positions(), None)[0])
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
