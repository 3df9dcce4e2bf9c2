"""The oracles of optim.py against numbers worked out by hand."""

import math

import pytest
import torch

from tests.oracles.by_hand import f64, near
from tests.oracles.optim import adamwspam, cubic, lowest_mask, magnitude_mask

BETAS = (0.0, 0.75)  # m = g; v after one step g²/4, bias correction 1/4, 7/16, 37/64


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
