"""The oracles of the recurrent mixers against closed forms of them.

Legend: tests/oracles/recurrence/op.py.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.oracles.recurrence import pieces, shapes
from tests.oracles.recurrence.linear import linear_attention
from tests.oracles.recurrence.mixers import MIXERS

E, H, N, T = 8, 2, 3, 6
D = E // H


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def close(ours, theirs):
    return torch.allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def plain(kind, generator, **values):
    """Random weights, W_o the identity where it is square: y is what the heads give."""
    weights = shapes.randomised(kind, E, H, N, False, generator)
    if kind != "mamba2":
        weights["o"] = torch.eye(E, dtype=torch.float64)
    assert set(values) <= set(weights)
    return weights | values


def through(weights, *names):
    """Filters that pass the token itself alone."""
    one = torch.zeros(1, 4, dtype=torch.float64)
    one[0, 3] = 1.0
    return {name: one.expand(weights[name].shape) for name in names}


def heads(y_TE):
    return y_TE.unflatten(-1, (-1, D))


def unscaled(o_THD):
    """RMSNorm of every head, its weights 1."""
    return o_THD / (o_THD.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def test_convolution_is_torchs(generator):
    u_TW, w_W4, b_W = (normal(generator, *shape) for shape in ((T, E), (E, 4), (E,)))
    ours = torch.stack(pieces.convolved(list(u_TW), w_W4, b_W, [0] * T))
    padded_1WT = F.pad(u_TW.T, (3, 0))[None]
    assert close(ours, F.conv1d(padded_1WT, w_W4[:, None], b_W, groups=E)[0].T)


def test_convolution_sees_its_document_alone(generator):
    u_TW, w_W4 = normal(generator, T, E), normal(generator, E, 4)
    ours = pieces.convolved(list(u_TW), w_W4, None, [0, 0, 2, 2, 2, 2])
    alone = pieces.convolved(list(u_TW[2:]), w_W4, None, [0] * 4)
    assert all(torch.equal(a, b) for a, b in zip(ours[2:], alone, strict=True))


def test_pieces_are_torchs(generator):
    x_D, w_D = normal(generator, D), normal(generator, D)
    assert close(pieces.silu(x_D), F.silu(x_D))
    assert close(pieces.softplus(x_D), F.softplus(x_D))
    assert close(pieces.log_sigmoid(x_D), F.logsigmoid(x_D))
    assert close(pieces.rms_norm(x_D, w_D), F.rms_norm(x_D, (D,), w_D, 1e-5))
    assert close(pieces.unit(x_D) * (x_D @ x_D + 1e-6).sqrt(), x_D)


def test_a_rotation_keeps_lengths_and_distances(generator):
    q, k = normal(generator, D), normal(generator, D)
    turned = [pieces.rotated(x, 5, 10000.0) for x in (q, k)]
    assert close(turned[0].norm(), q.norm())
    assert close(turned[0] @ turned[1], q @ k)
    ahead = pieces.rotated(q, 7, 10000.0) @ pieces.rotated(k, 4, 10000.0)
    assert close(ahead, pieces.rotated(q, 3, 10000.0) @ k)


@pytest.mark.parametrize("kind", MIXERS)
def test_the_future_changes_nothing(kind, generator):
    weights = shapes.randomised(kind, E, H, N, True, generator)
    x = normal(generator, T, E)
    y = MIXERS[kind](x, weights, H)
    x[4] += 1
    moved = MIXERS[kind](x, weights, H)
    assert torch.equal(y[:4], moved[:4])
    assert not close(y[4], moved[4]) and not close(y[5], moved[5])


@pytest.mark.parametrize("kind", MIXERS)
def test_documents_are_each_alone(kind, generator):
    weights = shapes.randomised(kind, E, H, N, True, generator)
    x = normal(generator, T, E)
    y = MIXERS[kind](x, weights, H, [0, 1, 1, 1, 4, 4])
    for start, end in ((0, 1), (1, 4), (4, 6)):
        assert torch.equal(y[start:end], MIXERS[kind](x[start:end], weights, H))


@pytest.mark.parametrize("kind", MIXERS)
def test_every_parameter_has_a_gradient(kind, generator):
    weights = shapes.randomised(kind, E, H, N, True, generator)
    for value in weights.values():
        value.requires_grad_()
    x = normal(generator, T, E)
    loss = (MIXERS[kind](x, weights, H) * normal(generator, T, E)).sum()
    grads = torch.autograd.grad(loss, list(weights.values()))
    assert all(grad.abs().max() > 1e-6 for grad in grads)


def test_linear_is_a_sum_over_tokens(generator):
    weights = plain("linear", generator)
    x = normal(generator, T, E)
    q, k, v = ((x @ weights[name].T).unflatten(-1, (H, D))[None] for name in "qkv")
    wanted = linear_attention(q, k, v)[0].flatten(1)
    assert close(MIXERS["linear"](x, weights, H), wanted)


def test_retnet_is_its_parallel_form(generator):
    weights = plain("retnet", generator, norm=torch.ones(D, dtype=torch.float64))
    x = normal(generator, T, E)
    q, k, v = (heads(x @ weights[name].T) for name in "qkv")
    theta = 10000.0 ** (-torch.arange(D // 2, dtype=torch.float64) / (D // 2))
    turn = torch.exp(1j * torch.arange(T)[:, None, None] * theta)
    qc, kc = (torch.complex(a[..., :2], a[..., 2:]) * turn for a in (q, k))
    scores = torch.einsum("nhi,mhi->hnm", qc, kc.conj()).real / math.sqrt(D)
    n = torch.arange(T)
    for h, gamma in enumerate((31 / 32, 63 / 64)):
        scores[h] *= torch.tril(gamma ** (n[:, None] - n[None, :]).double())
    o = unscaled(torch.einsum("hnm,mhd->nhd", scores, v)).flatten(1)
    wanted = o * F.silu(x @ weights["g"].T)
    assert close(MIXERS["retnet"](x, weights, H), wanted)


def test_gla_without_a_gate_of_x_is_one_decay(generator):
    """W_up = 0: ln α = ln σ(b) / 16 for every token; equal b make it a scalar."""
    offset = torch.full((E,), 0.3, dtype=torch.float64)
    weights = plain("gla", generator, decay_offset=offset)
    weights["decay_up"] = torch.zeros(E, 16, dtype=torch.float64)
    x = normal(generator, T, E)
    q, k, v = (heads(x @ weights[name].T) for name in "qkv")
    alpha = (1 / (1 + math.exp(-0.3))) ** (1 / 16)
    n = torch.arange(T)
    left = torch.tril(alpha ** (n[:, None] - n[None, :]).double())
    scores = torch.einsum("nhd,mhd->hnm", q, k) / math.sqrt(D) * left
    o = unscaled(torch.einsum("hnm,mhd->nhd", scores, v)) * weights["norm"]
    wanted = o.flatten(1) * F.silu(x @ weights["g"].T)
    assert close(MIXERS["gla"](x, weights, H), wanted)


def test_deltanet_of_one_token_is_its_value(generator):
    """o = β (q·k) v / √D, with q, k = u/|u| of silu(conv(x W))."""
    weights = plain("deltanet", generator)
    x = normal(generator, 1, E)
    q, k, v = (
        heads(F.silu(x @ weights[name].T * weights[f"conv_{name}"][:, 3]))
        for name in "qkv"
    )
    q, k = (a / (a.square().sum(-1, keepdim=True) + 1e-6).sqrt() for a in (q, k))
    beta = torch.sigmoid(x @ weights["beta"].T)[..., None]
    o = beta * (q * k).sum(-1, keepdim=True) * v / math.sqrt(D)
    wanted = (unscaled(o) * weights["norm"]).flatten(1)
    assert close(MIXERS["deltanet"](x, weights, H), wanted)


def test_deltanet_reads_back_what_it_wrote(generator):
    """β = 1 and a query that is a key: the value of that token, exactly up to its norm,
    whatever was written before it.
    """
    weights = plain("deltanet", generator)
    weights |= through(weights, "conv_q", "conv_k", "conv_v")
    weights["q"], weights["norm"] = weights["k"], torch.ones(D, dtype=torch.float64)
    x = normal(generator, T, E)
    x[:, 0] = 1.0
    weights["beta"] = torch.zeros(H, E, dtype=torch.float64)
    weights["beta"][:, 0] = 40.0
    v = heads(F.silu(x @ weights["v"].T))
    ours = heads(MIXERS["deltanet"](x, weights, H))
    cosines = torch.cosine_similarity(ours, v, dim=-1)
    assert torch.allclose(cosines, torch.ones_like(cosines), atol=1e-5)


def test_gdn_is_a_product_of_matrices(generator):
    """S_t = α_t (I - β k kᵀ) S_{t-1} + β k vᵀ, o_t = S_tᵀ q_t / √D (2412.06464)."""
    weights = plain("gdn", generator, norm=torch.ones(D, dtype=torch.float64))
    weights |= through(weights, "conv_q", "conv_k", "conv_v")
    x = normal(generator, T, E)
    q, k, v = (heads(F.silu(x @ weights[name].T)) for name in "qkv")
    q, k = (a / (a.square().sum(-1, keepdim=True) + 1e-6).sqrt() for a in (q, k))
    beta = torch.sigmoid(x @ weights["beta"].T)
    step = F.softplus(x @ weights["decay"].T + weights["dt_offset"])
    alpha = torch.exp(-weights["A_log"].exp() * step)
    S_HDD = torch.zeros(H, D, D, dtype=torch.float64)
    o = []
    for t in range(T):
        outer = k[t, :, :, None] * k[t, :, None, :]
        move = torch.eye(D, dtype=torch.float64) - beta[t, :, None, None] * outer
        write = k[t, :, :, None] * (beta[t, :, None] * v[t])[:, None, :]
        S_HDD = alpha[t, :, None, None] * (move @ S_HDD) + write
        o.append(torch.einsum("hkv,hk->hv", S_HDD, q[t]) / math.sqrt(D))
    wanted = unscaled(torch.stack(o)).flatten(1) * F.silu(x @ weights["g"].T)
    assert close(MIXERS["gdn"](x, weights, H), wanted)


def test_gdn_without_decay_is_a_gated_deltanet(generator):
    weights = plain("gdn", generator)
    weights["A_log"] = torch.full((H,), -800.0, dtype=torch.float64)
    x = normal(generator, T, E)
    wanted = MIXERS["deltanet"](x, weights, H) * F.silu(x @ weights["g"].T)
    assert close(MIXERS["gdn"](x, weights, H), wanted)


def test_gdn_forgets_at_a_strong_decay(generator):
    """ln α -> -inf: every token is the first."""
    weights = plain("gdn", generator)
    weights |= through(weights, "conv_q", "conv_k", "conv_v")
    weights["A_log"] = torch.full((H,), 8.0, dtype=torch.float64)
    weights["dt_offset"] = torch.full((H,), 9.0, dtype=torch.float64)
    x = normal(generator, T, E)
    alone = torch.cat([MIXERS["gdn"](x[t : t + 1], weights, H) for t in range(T)])
    assert close(MIXERS["gdn"](x, weights, H), alone)


def test_mamba2_is_its_parallel_form(generator):
    """y = norm((L ⊙ C Bᵀ)(Δ x) + D x) ⊙ silu(z), L the decays between (2405.21060)."""
    weights = shapes.randomised("mamba2", E, H, N, False, generator)
    names = [f"conv_{name}" for name in "xBC"]
    weights |= through(weights, *names)
    x = normal(generator, T, E)
    u, B, C = (
        F.silu(x @ weights[name].T + weights[f"conv_{name}.bias"]) for name in "xBC"
    )
    step = F.softplus(x @ weights["dt"].T + weights["dt_offset"])
    left = (-weights["A_log"].exp() * step).cumsum(dim=0)
    L = torch.exp(left[:, None] - left[None, :]) * torch.ones(T, T).tril()[..., None]
    values = heads(u) * step[..., None]
    o = torch.einsum("nmh,nm,mhd->nhd", L, C @ B.T, values)
    o = (o + heads(u) * weights["D_skip"][:, None]).flatten(1)
    o = unscaled(o * F.silu(x @ weights["z"].T)) * weights["norm"]
    assert close(MIXERS["mamba2"](x, weights, H), o @ weights["o"].T)


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("E, H, N", [(768, 12, 128), (96, 12, 16), (8, 2, 3)])
def test_parameters_are_those_of_the_shapes(kind, E, H, N):
    sizes = shapes.shapes_of(kind, E, H, N, bias=False)
    total = sum(math.prod(shape) for shape in sizes.values())
    assert total == shapes.parameters(kind, E, H, N)


def test_costs_at_the_size_of_gpt2():
    """E 768, H 12: the state of a head is 64 x 64, of a Mamba-2 head 128 x 64."""
    assert shapes.state("gdn", 768, 12, 128) == 12 * 64 * 64
    assert shapes.state("linear", 768, 12, 128) == 12 * 64 * 64 + 768
    assert shapes.state("mamba2", 768, 12, 128) == 24 * 128 * 64
    assert shapes.tail("gdn", 768, 128) == 9 * 768
    assert shapes.tail("mamba2", 768, 128) == 3 * (2 * 768 + 256)
    assert shapes.flops("retnet", 768, 12, 128) == 12 * 768 * 64
    assert shapes.flops("gdn", 768, 12, 128) == 18 * 768 * 64


def test_laws_end_where_they_should():
    """0 and 1 at the ends of each law, by the inverse of each."""
    ends = {
        "A_mamba2": (0.0, math.log(16)),
        "dt_offset": tuple(math.log(math.expm1(step)) for step in (0.001, 0.1)),
        "conv": (-0.5, 0.5),
    }
    for law, values in ends.items():
        shares = shapes.share_below(law, torch.tensor(values, dtype=torch.float64))
        assert torch.allclose(shares, torch.tensor([0.0, 1.0]).double(), atol=1e-9)
    middle = torch.tensor([math.log(8)], dtype=torch.float64)
    assert close(shapes.share_below("A_gdn", middle), torch.tensor([0.5]).double())
