"""The oracles against numbers worked out by hand: arithmetic finds their errors."""

import math

import pytest
import torch

from tests.oracles import attention
from tests.oracles.by_hand import LN2, LN3, f64, heads, last_row, near


def test_plain_and_reciprocal_scores():
    q, k = heads([1.0], [2.0], [3.0]), heads([1.0], [-1.0], [2.0])
    near(attention.scores(q, k)[0, 0], [[1, 0, 0], [2, -2, 0], [3, -3, 6]])
    # α/2 more on the diagonal; (1, 0): 2 + q_0 k_1/2; (2, 1): -3 + q_1 k_2/2;
    # (2, 0) lies outside the band.
    expected = [[1.5, 0, 0], [1.5, -3, 0], [3, -1, 9]]
    near(attention.scores(q, k, alpha=0.5, band=1)[0, 0], expected)
    # Band 0 is the diagonal; band 2 reaches (2, 0): 3 + q_0 k_2/2.
    near(attention.scores(q, k, 0.5, 0)[0, 0, 2], [3, -3, 9])
    near(attention.scores(q, k, 0.5, 2)[0, 0, 2], [4, -1, 9])


def test_reciprocal_is_the_transposed_score():
    q = heads([1.0, 2, 0, 0], [3.0, -1, 0, 0])
    k = heads([1.0, 1, 0, 0], [2.0, 5, 0, 0])
    # √D = 2: q_1·k_0 = 2, q_0·k_1 = 12. The traps give other numbers: (1+α) q_t·k_s,
    # and the sums apart, Σq_0 Σk_1 = 3·7 = 21 or Σq_1 Σk_0 = 2·2 = 4.
    S = attention.scores(q, k, alpha=0.5, band=1)[0, 0]
    near(S, [[2.25, 0], [(2 + 0.5 * 12) / 2, 0.75]])
    apart = torch.einsum("bshd,bthe->bhts", q, k)[0, 0, 1, 0]
    assert apart == 21
    for trap in (2 + 0.5 * 2, 2 + 0.5 * 21, 2 + 0.5 * 4):
        assert S[1, 0] != trap / 2


def test_heads_share_keys_in_groups_and_alpha_is_per_head():
    q = torch.ones(1, 1, 4, 1, dtype=torch.float64)
    k = f64(1, 10).reshape(1, 1, 2, 1)
    near(attention.scores(q, k)[0, :, 0, 0], [1, 1, 10, 10])
    S = attention.scores(q, k, alpha=f64(0, 1, 2, 3), band=0)
    near(S[0, :, 0, 0], [1, 2, 30, 40])
    o = attention.mix(torch.ones(1, 4, 1, 1, dtype=torch.float64), k)
    near(o[0, 0, :, 0], [1, 1, 10, 10])


def test_softmax_and_window():
    S = last_row(0.0, LN2, LN3)
    S[0, 0, 1] = f64(0, LN3, 99)
    p = attention.softmax(S)[0, 0]
    near(p, [[1, 0, 0], [1 / 4, 3 / 4, 0], [1 / 6, 2 / 6, 3 / 6]])
    near(attention.softmax(S, window=2)[0, 0, 2], [0, 2 / 5, 3 / 5])
    near(attention.softmax(S, window=1)[0, 0], torch.eye(3))


def test_softpick():
    S = last_row(LN3, LN2, -LN2)  # e^x - 1 = 2, 1, -1/2
    for safe in (True, False):
        p = attention.softpick(S, eps=0, safe=safe)[0, 0, 2]
        near(p, [4 / 7, 2 / 7, 0])
    near(attention.softpick(S, eps=1, safe=False)[0, 0, 2], [4 / 9, 2 / 9, 0])
    # Safe, m = ln 3: 2/3, 1/3, -1/6 over 7/6 + 1. Window 2, m = ln 2: 1/2, -1/4.
    near(attention.softpick(S, eps=1)[0, 0, 2], [4 / 13, 2 / 13, 0])
    near(attention.softpick(S, eps=1, window=2)[0, 0, 2], [0, 2 / 7, 0])
    # m is 0 where every score is negative: -1/2, -3/4, -2/3; nothing is picked.
    p = attention.softpick(last_row(-LN2, -2 * LN2, -LN3), eps=1)[0, 0, 2]
    near(p, [0, 0, 0])
    p = attention.softpick(last_row(-LN2, LN2 / 1e12), eps=1)[0, 0, 1]
    near(p, [0, LN2 / 1e12 / 1.5])
    x = attention.softpick(last_row(1e-12, 0.0))[0, 0, 1, 0]
    near(x, 1e-12 / (1e-12 + 1e-6))


def test_softpick_backward():
    """The streaming form of the document: ds = e^{s-L}(step(s) dP - sign(s) δ)."""
    torch.manual_seed(0)
    S = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    dP = torch.randn(4, dtype=torch.float64)
    p = attention.softpick(S)[0, 0, 3]
    (p @ dP).backward()
    s = S.detach()[0, 0, 3]
    m = max(0.0, s.max().item())
    L = m + math.log((torch.exp(s - m) - math.exp(-m)).abs().sum() + 1e-6)
    delta = p.detach() @ dP
    near(S.grad[0, 0, 3], torch.exp(s - L) * ((s > 0) * dP - torch.sign(s) * delta))


@pytest.mark.parametrize(
    "kind, row, expected",
    [
        ("topk", (0.1, 0.4, 0.3, 0.2), 0.7),
        ("max", (0.1, 0.4, 0.3, 0.2), 0.4),
        ("rms", (0.1, 0.4, 0.3, 0.2), math.sqrt(0.3 / 4)),
        ("entropy", (0.25, 0.25, 0.25, 0.25), 0),
        ("entropy", (0, 0, 1, 0), 1),
        ("entropy", (0.5, 0.5, 0, 0), 0.5),
        ("rms", (0, 0, 0, 0), 0),
    ],
)
def test_statistics(kind, row, expected):
    near(attention.statistic(last_row(*row), kind, k=2)[0, 0, 3], expected)


def test_statistics_of_short_rows():
    p = last_row(0, 0, 0.5, 0.5)
    p[0, 0, 0, 0] = 1
    for kind, first, last in (("entropy", 0, 0), ("rms", 1, 0.5), ("topk", 1, 1)):
        stat = attention.statistic(p, kind, window=2)[0, 0]
        near(stat[0], first)
        near(stat[3], last)
    near(attention.statistic(p, "topk", k=1, window=2)[0, 0, 3], 0.5)
    both = attention.head_average(torch.cat([p, last_row(1, 0, 0, 0)], 1))[0, :, 3]
    near(both, [[0.5, 0, 0.25, 0.25]] * 2)


def test_statistics_backward():
    """By the scores: the four lines of the document, at t = 4 of a random row."""
    torch.manual_seed(1)
    raw = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    p = attention.softmax(raw)[0, 0, 4]
    topk = p.topk(2)
    top = torch.zeros_like(p).index_fill(0, topk.indices, 1)
    arg = torch.zeros_like(p).index_fill(0, p.argmax(), 1)
    H, square = -(p * p.log()).sum(), (p * p).sum()
    rms = torch.sqrt(square / 5)
    expected = {
        "topk": p * (top - topk.values.sum()),
        "max": p.max() * (arg - p),
        "entropy": p * (p.log() + H) / math.log(5),
        "rms": p * (p - square) / (5 * rms),
    }
    for kind, gradient in expected.items():
        S = raw.clone().requires_grad_()
        stat = attention.statistic(attention.softmax(S), kind, k=2)[0, 0, 4]
        stat.backward()
        near(S.grad[0, 0, 4], gradient)


def test_ra_ct():
    stat = f64(-2, LN3 / 3 - 2 / 3).reshape(1, 2, 1)
    g = attention.gate(stat, f64(1, 3), f64(2, 2))  # σ(0), σ(ln 3)
    near(g[0, :, 0], [1 / 2, 3 / 4])
    o = f64(10, -10).reshape(1, 1, 2, 1)
    near(attention.ra_ct_output(o, g, 0.2)[0, 0, :, 0], [9, -9.5])
    S = attention.ra_ct_weights(last_row(0.0, LN3), f64(0, 0.5).reshape(1, 1, 2), 1.0)
    near(S[0, 0, 1], [0, LN3 / 2])  # √3 for 3, before the softmax
    o = attention.mix(attention.softmax(S), heads([0.0], [1.0]))
    near(o[0, 1, 0, 0], math.sqrt(3) / (1 + math.sqrt(3)))


def test_rope_turns_split_halves():
    x = attention.rope(heads([1.0, 1, 0, 0], [1.0, 1, 0, 0]), base=16.0)[0, :, 0]
    c, s = math.cos, math.sin
    near(x, [[1, 1, 0, 0], [c(1), c(0.25), s(1), s(0.25)]])
    x = attention.rope(heads([9.0, 9], [9.0, 9], [0.0, 1]))[0, 2, 0]
    near(x, [-s(2), c(2)])


def test_mla_and_output_gate():
    x = f64(1, 2).reshape(1, 1, 2)
    eye = torch.eye(2, dtype=torch.float64)
    down_k, down_v, a = f64([1, 1]), f64([0, 1]), f64([2], [3])
    q, k, v, ck, cv = attention.mla(
        x, eye, f64(10, 20), down_k, down_v, a, f64([5]), heads=2
    )
    near(q[0, 0, :, 0], [11, 22])
    near(torch.cat([ck, cv])[:, 0, 0], [3, 2])
    near(k[0, 0, :, 0], [6, 9])
    near(v[0, 0, :, 0], [10, 10])
    more = f64(1).reshape(1, 1, 1)
    _, k, v, ck, cv = attention.mla(x, eye, None, down_k, None, a, a, 2, more)
    near(torch.cat([ck, cv])[:, 0, 0], [4, 4])
    near(torch.cat([k, v])[:, 0, :, 0], [[8, 12], [8, 12]])
    x, o = f64(LN3, 0).reshape(1, 1, 2), f64(4, 8, 12, 16).reshape(1, 1, 2, 2)
    w = f64([1, 0], [-1, 0])  # σ = 3/4, 1/4
    near(attention.output_gate(o, x, w, headwise=True)[0, 0], [[3, 6], [3, 4]])
    w = f64([1, 0], [-1, 0], [0, 1], [0, 2])  # 3/4, 1/4, 1/2, 1/2
    near(attention.output_gate(o, x, w, headwise=False)[0, 0], [[3, 2], [6, 8]])
