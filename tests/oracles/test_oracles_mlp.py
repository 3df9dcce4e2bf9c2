"""The oracles of mlp.py and optim.py against numbers worked out by hand."""

import math

import pytest
import torch

from tests.oracles import mlp
from tests.oracles.by_hand import LN3, f64, last_row, near
from tests.oracles.optim import adamwspam, cubic, lowest_mask, magnitude_mask

BETAS = (0.0, 0.75)  # m = g; v after one step g²/4, bias correction 1/4, 7/16, 37/64


def test_activations():
    near(mlp.relu2(f64(-2, 0, 3)), [0, 0, 9])
    near(mlp.swiglu(f64([LN3, 2]), f64([1, 0]), f64([0, 4])), [[LN3 * 0.75 * 8]])
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    near(mlp.gelu_tanh(x), torch.nn.functional.gelu(x, approximate="tanh"))
    near(mlp.gelu_tanh(f64(10, -10)), [10, 0])


def test_attn_gate():
    h = f64([10], [30]).reshape(1, 2, 1)  # gelu leaves them as they are
    w_h = f64([-0.2], [0.1])  # times the means 10, 20; then + 2
    gamma = mlp.attn_gate(h, f64([1]), w_h)[0]
    near(gamma, torch.sigmoid(f64([0, 3], [-2, 4])))
    gamma = mlp.attn_gate(h, f64([1]), w_h, prefix_mean=False)[0]
    near(gamma, torch.sigmoid(f64([0, 3], [-4, 5])))
    # gelu, then the mean; never the mean first: gelu(-30) = 0, the mean 5.
    gamma = mlp.attn_gate(f64([10], [-30])[None], f64([1]), f64([0.2]))[0, 1]
    near(gamma, torch.sigmoid(f64(3)))
    o = f64(2, 4).reshape(1, 1, 2, 1)
    near(mlp.apply_gate(o, f64(0.5, 1)[None, None], 0.1)[0, 0], [[1.9], [4]])


def test_routing():
    p = torch.cat([last_row(0.1, 0.2, 0.3, 0.4), last_row(0.3, 0.4, 0.3, 0)], 1)
    # The mean over heads: 0.2, 0.3, 0.3, 0.2; its rms √(0.26/4) = 0.25495.
    near(mlp.routing(p, "none")[0, 3], [0.2, 0.3, 0.3, 0.2])
    near(mlp.routing(p, "topk", k=2)[0, 3], [0, 0.5, 0.5, 0])
    near(mlp.routing(p, "topk", k=3)[0, 3], [2 / 8, 3 / 8, 3 / 8, 0])
    near(mlp.routing(p, "rms")[0, 3], [0.2, 0.3, 0.3, 0.2])
    near(mlp.routing(p, "rms", tau=1)[0, 3], [0, 0.5, 0.5, 0])
    near(mlp.routing(p, "rms", tau=1, window=2)[0, 3], [0, 0, 1, 0])
    near(mlp.routing(p, "topk", window=2)[0, 3], [0, 0, 0.6, 0.4])
    for mode in ("none", "topk", "rms"):
        near(mlp.routing(p, mode)[0, :3], torch.zeros(3, 4))
        half = mlp.routing(last_row(0.25, 0.25), mode)[0, 1]
        near(half, [0.5, 0.5])


def test_cross_token():
    h = f64([2], [4])[None]  # W_down: 6, 12; mixed: 6, 6/4 + 36/4
    P = f64([1, 0], [0.25, 0.75])[None]
    added = mlp.cross_token(h, P, f64([3]), f64([2]), alpha=0.5)
    near(added[0], [[6], [10.5]])


def test_latent_recip():
    h, c = f64(5, 7).reshape(1, 1, 2), f64(3).reshape(1, 1, 1)
    w = f64([1], [2])
    to_h, to_ck = mlp.latent_recip(h, c, 0.1, "tied_transpose", w)
    near(to_h[0, 0], [0.3, 0.6])
    near(to_ck[0, 0], [1.9])
    to_h, to_ck = mlp.latent_recip(h, c, 0.1, "untied", (w, f64([4, -1])))
    near(to_h[0, 0], [0.3, 0.6])
    near(to_ck[0, 0], [1.3])
    # L = 3, H = 2: latents 0, 1 are head 0's, latent 2 is head 1's. F = 4, Q swaps.
    q = f64([0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1])
    h, c = f64(1, 2, 3, 4).reshape(1, 1, 4), f64(1, 10, 100).reshape(1, 1, 3)
    scalars = (q, f64(2, 3), f64(5, 7))
    to_h, to_ck = mlp.latent_recip(h, c, 0.5, "per_head_scalar", scalars, heads=2)
    near(to_h[0, 0], [10, 1, 0, 150])
    near(to_ck[0, 0], [5, 2.5, 14])


def spam(grads, **options) -> list[float]:
    """One parameter from 0, lr 1: minus what each step adds to it."""
    settings = dict(lr=1.0, betas=BETAS, eps=0.0, weight_decay=0.0, theta=4.0)
    settings |= dict(interval=0, warmup_n=0, clip_from=99) | options
    w = [0.0] + [row[0] for row in adamwspam([0.0], [[g] for g in grads], **settings)]
    return [before - after for before, after in zip(w, w[1:])]


def test_spam_clips_with_the_uncorrected_v_before_the_step():
    # v = 1 after g = 2. g² > 4: g = ±2, v = 3/4 + 1 = 7/4, over 7/16: 4.
    assert spam([2, 10], clip_from=2) == pytest.approx([1, 1])
    assert spam([2, -10], clip_from=2) == pytest.approx([1, -1])
    free = 10 / math.sqrt((0.75 + 25) / 0.4375)
    assert spam([2, 10], clip_from=3) == pytest.approx([1, free])
    # v = 0 stops nothing: v = 25/4, over 7/16.
    unseen = spam([0, 5], clip_from=1, eps=1e-300)
    assert unseen == pytest.approx([0, math.sqrt(1.75)])


def test_spam_resets_and_warms_up():
    assert spam([2, 3], interval=2, warmup_n=1) == pytest.approx([1, 0.01])
    steps = spam([1] * 6, interval=2, warmup_n=1)
    assert steps == pytest.approx([1, 0.01, 1, 0.01, 1, 0.01])
    # N = 3: j = 1, 2 have cos(π/4) and cos(π/2) = 0; j = 3 is free.
    quarter = 1 - 0.99 * (1 + math.sqrt(0.5)) / 2
    steps = spam([1] * 7, interval=4, warmup_n=3)
    assert steps == pytest.approx([1, 1, 1, 0.01, quarter, 0.505, 1])
    # Both moments restart: with β₁ = 1/2 an m that stayed would give -1 + 1/2 = -1/2.
    steps = spam([2, -2], betas=(0.5, 0.75), interval=2, warmup_n=1)
    assert steps == pytest.approx([1, -0.01])
    since_start = 0.01 * math.sqrt(0.4375 / 0.25)
    steps = spam([2, 2], interval=2, warmup_n=1, reset_correction=False)
    assert steps == pytest.approx([1, since_start])


def test_spam_does_not_clip_after_a_reset():
    clip = dict(interval=4, clip_from=2)
    free = 10 / math.sqrt(25.75 / 0.4375)  # j = 1
    assert spam([2, 2, 2, 2, 10], **clip)[4] == pytest.approx(free)
    # j = 2: v = 7/4, g = √7, v = 21/16 + 28/16 = 49/16.
    clipped = math.sqrt(7 / (49 / 16 / 0.578125))
    assert spam([2, 2, 2, 2, 2, 10], **clip)[5] == pytest.approx(clipped)


def test_spam_decay_and_eps():
    def one(**options) -> float:
        settings = dict(lr=0.1, betas=BETAS, eps=0.0, weight_decay=0.5, theta=4.0)
        settings |= dict(interval=1, warmup_n=1) | options
        return adamwspam([1.0], [[2.0]], **settings)[0][0]

    assert one() == pytest.approx(0.95 - 0.001)  # decay is not scaled
    assert one(decay_after=True) == pytest.approx(0.999 * 0.95)
    assert one(interval=0, eps=2.0) == pytest.approx(0.95 - 0.1 * 2 / (2 + 2))
    uncorrected = one(interval=0, eps=2.0, eps_corrected=False)
    assert uncorrected == pytest.approx(0.95 - 0.1 * 2 * 0.5 / (1 + 2))


def test_without_resets_and_spikes_it_is_adamw():
    torch.manual_seed(0)
    grads = torch.randn(30, 3, dtype=torch.float64)
    rates = [0.1 / (1 + n) for n in range(30)]
    w = torch.nn.Parameter(f64(1, -2, 3))
    options = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    adamw = torch.optim.AdamW([w], **options)
    ours = adamwspam(
        [1, -2, 3], grads.tolist(), rates, **options, theta=1e9, interval=0, warmup_n=0
    )
    for n in range(30):
        adamw.param_groups[0]["lr"] = rates[n]
        w.grad = grads[n].clone()
        adamw.step()
        near(w.detach(), ours[n])


def test_cubic():
    sparsities = [cubic(step, 10, 20, 0.0, 0.8) for step in (0, 10, 15, 20, 99)]
    assert sparsities == pytest.approx([0, 0, 0.7, 0.8, 0.8])
    assert cubic(15, 10, 20, 0.4, 0.8) == pytest.approx(0.75)


def test_magnitude_mask():
    w, live = [-3.0, -1.0, 2.0, 1.0], [True] * 4
    assert magnitude_mask(w, live, 0.25) == [True, False, True, True]  # a tie
    assert magnitude_mask(w, live, 0.5) == [True, False, True, False]
    # A pruned number counts, is not ranked and does not return.
    assert magnitude_mask(w, [False, True, True, True], 0.5) == [
        False,
        False,
        True,
        True,
    ]
    gone = [False, True, False, True]
    assert magnitude_mask(w, gone, 0.25) == gone
    # Nor does its score 0 beat negative live scores.
    assert lowest_mask([0.0, -1.0, -2.0, 5.0], [False, True, True, True], 0.5) == [
        *(False, True, False, True)
    ]
