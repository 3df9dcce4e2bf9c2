"""Where AdamWSPAM departs from its authors' code, one departure at a time.

`loop` is that code (SPAM.py of github.com/TianjinYellow/SPAM-Optimizer, March 2025)
for one number, written anew in its order; each departure of docs/optimizers.md is a
word in `ours`.
"""

import math

import pytest
import torch

from gpt2.optim.adamwspam import AdamWSPAM

LR, DECAY, BETAS, EPS, THETA, INTERVAL, WARMUP = 0.02, 0.5, (0.9, 0.999), 1e-3, 9, 30, 7
STEPS, SPIKES, SILENT = 75, (19, 44, 55), 25
DEPARTURES = ("reset", "clip", "zero", "eps", "decay", "correction")


def loop(w, gradients, ours):
    """The weight after every step; t counts from 0, their `total_step` + 1 is n."""
    beta1, beta2 = BETAS
    m = v = 0.0
    age = WARMUP + 1  # steps since the reset, as their `current_step`
    counted, weights = 0, []
    for t, g in enumerate(gradients):
        n = t if "reset" in ours else t + 1
        if n > 0 and n % INTERVAL == 0:
            m = v = 0.0
            age = 0
            counted = 0 if "correction" in ours else counted
        counted += 1
        before_reset = n < INTERVAL
        grown = t if before_reset and "clip" in ours else t + 1
        if not before_reset:
            grown = n % INTERVAL
        if grown >= 20 and g * g > THETA * v and (v > 0 or "zero" not in ours):
            g = math.copysign(math.sqrt(THETA * v), g)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        one, two = 1 - beta1**counted, math.sqrt(1 - beta2**counted)
        if "eps" in ours:
            update = m / one / (math.sqrt(v) / two + EPS)
        else:
            update = m / one * two / (math.sqrt(v) + EPS)
        scale = 1.0
        if age < WARMUP:
            scale = 1 - 0.99 * (1 + math.cos(math.pi * age / (WARMUP + 1))) / 2
        if "decay" in ours:
            w = w - LR * DECAY * w
        w = w - LR * scale * update
        if "decay" not in ours:
            w = w - LR * DECAY * w
        age += 1
        weights.append(w)
    return weights


def gradients(silent):
    """Small noise with spikes; nothing at all before SILENT where asked."""
    g = torch.randn(STEPS, generator=torch.manual_seed(3), dtype=torch.float64) / 100
    for t in SPIKES:
        g[t] = 10.0
    if silent:
        g[:SILENT] = 0.0
    return g


def optimizer_steps(g):
    """The weight after every step of AdamWSPAM."""
    p = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    optimizer = AdamWSPAM([p], LR, BETAS, EPS, DECAY, THETA, INTERVAL, WARMUP, True)
    found = []
    for value in g:
        p.grad = value[None].clone()
        optimizer.step()
        found.append(p.item())
    return found


@pytest.mark.parametrize("silent", [False, True])
def test_with_all_six_it_is_the_authors_code(silent):
    g = gradients(silent)
    expected = loop(0.5, g.tolist(), DEPARTURES)
    assert optimizer_steps(g) == pytest.approx(expected, rel=1e-11)


# The step at which a run as theirs is another one for the first time.
FIRST = {
    "reset": INTERVAL - 1,
    "clip": 19,
    "zero": SILENT,
    "eps": 0,
    "decay": 0,
    "correction": INTERVAL,
}


@pytest.mark.parametrize("departure", DEPARTURES)
def test_each_is_seen_at_its_step(departure):
    """Equal before it, another weight at it."""
    silent = departure == "zero"
    g, first = gradients(silent), FIRST[departure]
    if departure == "reset":
        g[19] = 0.01  # 20 steps later their clipping would begin a step earlier
    ours = optimizer_steps(g)
    theirs = loop(0.5, g.tolist(), set(DEPARTURES) - {departure})
    assert ours[:first] == pytest.approx(theirs[:first], rel=1e-11)
    assert abs(ours[first] / theirs[first] - 1) > 1e-7


def test_what_decay_after_the_update_takes():
    """lr λ of the update more, which is of second order in the rate."""
    g = gradients(False)
    update = 0.5 * (1 - LR * DECAY) - optimizer_steps(g)[0]
    theirs = loop(0.5, g.tolist(), set(DEPARTURES) - {"decay"})
    assert theirs[0] - optimizer_steps(g)[0] == pytest.approx(LR * DECAY * update)


def test_what_eps_beside_the_root_of_v_is():
    """Theirs is ε / √(1 − β₂ⁿ) beside the corrected root: 32 ε at the first step."""
    g = gradients(False)
    corrected = abs(g[0].item())
    ours = 0.5 * (1 - LR * DECAY) - optimizer_steps(g)[0]
    assert ours == pytest.approx(LR * g[0].item() / (corrected + EPS))
    theirs = loop(0.5, g.tolist(), set(DEPARTURES) - {"eps"})
    moved = 0.5 * (1 - LR * DECAY) - theirs[0]
    assert moved == pytest.approx(LR * g[0].item() / (corrected + EPS / 0.001**0.5))


def test_what_a_bound_of_zero_does():
    """A weight whose gradient was 0 so far: theirs never moves it before a reset."""
    g = gradients(True)
    theirs = loop(0.5, g.tolist(), set(DEPARTURES) - {"zero"})
    kept = [0.5 * (1 - LR * DECAY) ** (t + 1) for t in range(INTERVAL)]
    assert theirs[:INTERVAL] == pytest.approx(kept)
    assert optimizer_steps(g)[:INTERVAL] != pytest.approx(kept)
