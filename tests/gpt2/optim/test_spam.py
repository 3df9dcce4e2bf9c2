"""AdamWSPAM against the formulas as scalar loops, and against torch's AdamW."""

import io
import math

import pytest
import torch

from gpt2 import optim
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.optim.adamwspam import AdamWSPAM, rewarming
from kconf.bind import SettingsError

OFF = {"theta": 0.0, "interval": 0, "warmup": 0, "reset_correction": True}
PLAIN = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}


def oracle(p, gradients, lr, betas, eps, weight_decay, theta, interval, warmup, fresh):
    """One scalar weight through mechanisms.md's text; a record per step.

    lr: one rate per step. fresh: bias correction counted since the reset.
    """
    beta1, beta2 = betas
    m = v = 0.0
    since_reset = None  # steps since the last reset, None before the first one
    counted = 0
    rows = []
    for t, g in enumerate(gradients):
        if interval and t > 0 and t % interval == 0:
            m = v = 0.0
            since_reset = 0
            if fresh:
                counted = 0
        may_clip = t >= 20 if since_reset is None else since_reset >= 20
        clips = theta > 0 and may_clip and v > 0 and g * g > theta * v
        if clips:
            g = math.copysign(math.sqrt(theta * v), g)
        scale = 1.0
        if since_reset is not None and since_reset < warmup:
            j = since_reset
            scale = 1 - 0.99 * (1 + math.cos(math.pi * j / (warmup + 1))) / 2
        p = p - lr[t] * weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        counted += 1
        m_hat, v_hat = m / (1 - beta1**counted), v / (1 - beta2**counted)
        p = p - lr[t] * scale * m_hat / (math.sqrt(v_hat) + eps)
        if since_reset is not None:
            since_reset += 1
        rows.append((p, m, v, clips, scale))
    return rows


def gradients(steps, seed=0):
    """Four weights under noise with spikes; one is silent at first, one tiny."""
    stream = torch.Generator().manual_seed(seed)
    g = torch.randn(steps, 4, generator=stream, dtype=torch.float64)
    spikes = torch.rand(steps, 4, generator=stream) < 0.06
    g = torch.where(spikes, g.sign() * 400, g)
    g[:45, 1] = 0.0
    g[:, 2] *= 1e-12
    return g


def optimizer_over(values, rates=PLAIN, **changes):
    """Two groups: weights 0 and 1 decay, 2 and 3 do not; float64."""
    params = [
        torch.nn.Parameter(values[:2].clone()),
        torch.nn.Parameter(values[2:].clone()),
    ]
    groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.0}]
    return params, AdamWSPAM(groups, **rates, **{**OFF, **changes})


def steps_of(params, optimizer, g, lr):
    """Run the gradients; the weights, m and v after each step."""
    rows = []
    for row, rate in zip(g, lr):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for p, part in zip(params, (row[:2], row[2:])):
            p.grad = part.clone()
        optimizer.step()
        state = [optimizer.state[p] for p in params]
        parts = [list(params), *([s[k] for s in state] for k in STATE)]
        rows.append([torch.cat([x.detach() for x in part]) for part in parts])
    return rows


STATE = ("exp_avg", "exp_avg_sq")
CASES = {
    "all": {"theta": 50.0, "interval": 37, "warmup": 25},
    "correction never reset": {"theta": 50.0, "interval": 37, "warmup": 25},
    "clipping alone": {"theta": 50.0},
    "reset alone": {"interval": 30, "warmup": 10},
    "no warm-up": {"theta": 20.0, "interval": 41, "warmup": 0},
    "resets closer than 20 steps": {"theta": 5.0, "interval": 12, "warmup": 11},
    "every step": {"theta": 5.0, "interval": 1, "warmup": 0},
}


@pytest.mark.parametrize("case", CASES)
def test_the_formulas(case):
    fresh = case != "correction never reset"
    g = gradients(130)
    lr = [1e-2 * (1 + math.sin(t / 9)) / 2 + 1e-4 for t in range(len(g))]
    start = torch.tensor([0.3, -0.2, 0.1, 0.05], dtype=torch.float64)
    params, optimizer = optimizer_over(start, reset_correction=fresh, **CASES[case])
    found = steps_of(params, optimizer, g, lr)
    chosen = {"theta": 0.0, "interval": 0, "warmup": 0, **CASES[case]}
    clips = 0
    for k in range(4):
        decay = PLAIN["weight_decay"] if k < 2 else 0.0
        rates = {"betas": PLAIN["betas"], "eps": PLAIN["eps"], "weight_decay": decay}
        rows = oracle(
            start[k].item(), g[:, k].tolist(), lr, **rates, **chosen, fresh=fresh
        )
        for t, (p, m, v, clipped, _) in enumerate(rows):
            where = f"weight {k}, step {t}"
            assert found[t][0][k].item() == pytest.approx(p, rel=1e-11), where
            assert found[t][1][k].item() == pytest.approx(m, rel=1e-11, abs=0), where
            assert found[t][2][k].item() == pytest.approx(v, rel=1e-11, abs=0), where
            clips += clipped
    able = chosen["theta"] and (chosen["interval"] == 0 or chosen["interval"] > 20)
    assert (clips > 3) == bool(able), "the case does not exercise clipping"


@pytest.mark.parametrize(
    "spike, clipped",
    [(19, False), (20, True), (49, True), (50, False), (69, False), (70, True)],
)
def test_20_steps_without_clipping_after_the_start_and_a_reset(spike, clipped):
    g = torch.ones(80, 4, dtype=torch.float64)
    g[spike] = 1e3
    params, optimizer = optimizer_over(torch.zeros(4), theta=4.0, interval=50)
    for p in params:
        p.data = p.data.double()
    rows = steps_of(params, optimizer, g, [1e-3] * 80)
    before = 0.0 if spike == 50 else rows[spike - 1][2][0].item()
    squared = (rows[spike][2][0].item() - 0.999 * before) / (1 - 0.999)
    assert squared == pytest.approx(4 * before if clipped else 1e6, rel=1e-6)


def test_second_moments_grow_from_the_start_and_from_every_reset():
    """v = (1 − β₂ⁿ) g² under a constant gradient, whatever θ is."""
    g = torch.full((100, 4), 3.0, dtype=torch.float64)
    start = torch.zeros(4, dtype=torch.float64)
    params, optimizer = optimizer_over(start, theta=5000.0, interval=40, warmup=10)
    rows = steps_of(params, optimizer, g, [1e-3] * 100)
    for t, (_, _, v) in enumerate(rows):
        assert v.tolist() == pytest.approx([9 * (1 - 0.999 ** (t % 40 + 1))] * 4)


def test_a_silent_weight_is_never_clipped_to_zero():
    """v = 0 is no bound: the first gradient after many zeros counts in full."""
    g = torch.zeros(30, 4, dtype=torch.float64)
    g[29] = -7.0
    params, optimizer = optimizer_over(torch.zeros(4).double(), theta=5.0)
    rows = steps_of(params, optimizer, g, [1e-3] * 30)
    assert rows[29][2].tolist() == pytest.approx([49 * (1 - 0.999)] * 4)
    assert (rows[29][0] > 0).all()


def test_decay_is_not_scaled_after_a_reset():
    g = torch.zeros(12, 4, dtype=torch.float64)
    start = torch.ones(4, dtype=torch.float64)
    params, optimizer = optimizer_over(start, interval=10, warmup=9)
    rows = steps_of(params, optimizer, g, [0.5] * 12)
    for t, (p, _, _) in enumerate(rows):
        assert p[:2].tolist() == pytest.approx([0.95 ** (t + 1)] * 2, rel=1e-12)
        assert p[2:].tolist() == [1.0, 1.0]


def test_the_learning_rate_after_a_reset():
    """1 % at first, never above 1, whole from the N-th step on."""
    scale = [rewarming(j, 150) for j in range(152)]
    assert scale[0] == pytest.approx(0.01) and scale[150:] == [1.0, 1.0]
    assert scale == sorted(scale) and scale[149] < 1
    middle = 1 - 0.99 * (1 + math.cos(math.pi * 75 / 151)) / 2
    assert scale[75] == pytest.approx(middle)


def trained(model, optimizer, steps, first=0):
    """Real gradients of a small model under a changing rate."""
    for step in range(first, first + steps):
        tokens = torch.randint(0, 257, (2, 17), generator=torch.manual_seed(step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + step % 7)
        optimizer.zero_grad()
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()


def two_models(settings, seeds=(1, 1)):
    models = [GPT(settings.model) for _ in seeds]
    for model, seed in zip(models, seeds):
        initialise(model, seed)
    return models


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


@pytest.mark.parametrize("reset_correction", ["y", "n"])
def test_without_clipping_and_reset_it_is_torchs_adamw(small, reset_correction):
    """Bit for bit over 60 steps of a real model in fp32."""
    settings = small(
        OPTIMIZER_ADAMWSPAM="y",
        ADAM_BETA2="0.999",
        SPAM_THETA="0",
        SPAM_INTERVAL="0",
        SPAM_RESET_CORRECTION=reset_correction,
    )
    ours, theirs = two_models(settings)
    mine = optim.build(ours, settings.optim)
    decayed = optim.decayed_names(theirs)
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for n, p in named if n in decayed]},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(
        groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, foreach=True
    )
    for first in range(0, 60, 20):
        trained(ours, mine, 20, first)
        trained(theirs, plain, 20, first)
        assert equal(ours, theirs), f"steps {first} to {first + 19}"
    for p, q in zip(ours.parameters(), theirs.parameters()):
        for key in STATE:
            assert torch.equal(mine.state[p][key], plain.state[q][key])


LIVELY = {
    "OPTIMIZER_ADAMWSPAM": "y",
    "ADAM_BETA2": "0.999",
    "SPAM_THETA": "3",
    "SPAM_INTERVAL": "25",
    "SPAM_WARMUP": "9",
}


@pytest.mark.parametrize("saved", [1, 20, 24, 25, 26, 33, 50])
def test_resume_is_exact(small, saved):
    """The state dict, through a file, before, at and after resets."""
    settings = small(**LIVELY).optim
    straight, resumed = two_models(small(**LIVELY), (1, 2))
    optimizer = optim.build(straight, settings)
    trained(straight, optimizer, saved)
    file = io.BytesIO()
    torch.save([straight.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed.load_state_dict(weights)
    other = optim.build(resumed, settings)
    other.load_state_dict(state)
    assert [g["step"] for g in other.param_groups] == [saved, saved]
    trained(straight, optimizer, 40, saved)
    trained(resumed, other, 40, saved)
    assert equal(straight, resumed)
    assert [g["step"] for g in optimizer.param_groups] == [saved + 40] * 2


def test_clipping_and_reset_change_the_run(small):
    """LIVELY is lively: the round trip above covers both mechanisms."""
    plain = {**LIVELY, "SPAM_THETA": "0"}
    calm = {**LIVELY, "SPAM_INTERVAL": "0", "SPAM_WARMUP": "0"}
    models = [two_models(small())[0] for _ in range(3)]
    for model, chosen in zip(models, (LIVELY, plain, calm)):
        trained(model, optim.build(model, small(**chosen).optim), 40)
    assert not equal(models[0], models[1]) and not equal(models[0], models[2])


def test_gradients_are_left_as_they_are():
    params, optimizer = optimizer_over(torch.zeros(4), theta=1e-3)
    g = gradients(40).float()
    steps_of(params, optimizer, g, [1e-3] * 40)
    assert torch.equal(torch.cat([p.grad for p in params]), g[-1])


def test_a_missing_gradient_is_an_error():
    params, optimizer = optimizer_over(torch.zeros(4))
    params[0].grad = torch.zeros(2)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) has no gradient"):
        optimizer.step()


def test_settings_reach_the_optimizer(small):
    settings = small(**LIVELY, SPAM_RESET_CORRECTION="n", LEARNING_RATE="2e-3")
    model = GPT(settings.model)
    optimizer = optim.build(model, settings.optim)
    assert isinstance(optimizer, AdamWSPAM)
    decays, rest = optimizer.param_groups
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    for group in (decays, rest):
        assert (group["lr"], group["betas"]) == (2e-3, (0.9, 0.999))
        assert (group["theta"], group["interval"], group["warmup"]) == (3.0, 25, 9)
        assert group["eps"] == 1e-8 and group["reset_correction"] is False
    plain = small().optim
    assert (plain.spam_theta, plain.spam_interval, plain.spam_warmup) == (None,) * 3
    assert isinstance(optim.build(model, plain), torch.optim.AdamW)
    defaults = small(OPTIMIZER_ADAMWSPAM="y").optim
    assert (defaults.spam_theta, defaults.spam_interval) == (5000.0, 500)
    assert defaults.spam_warmup == 150 and defaults.spam_reset_correction


def test_a_warm_up_as_long_as_the_interval_is_refused(small):
    with pytest.raises(SettingsError, match="SPAM_WARMUP=25: is not below"):
        small(**{**LIVELY, "SPAM_WARMUP": "25"})
    small(**{**LIVELY, "SPAM_WARMUP": "24"})
    small(**{**LIVELY, "SPAM_INTERVAL": "0", "SPAM_WARMUP": "150"})


def test_settling_follows_the_real_resets(small):
    """Within N steps of the moments being zeroed, and at no other time."""
    settings = small(**LIVELY).optim
    rates = {**PLAIN, "betas": (0.5, 0.9)}
    params, optimizer = optimizer_over(
        torch.zeros(4).double(), rates, interval=25, warmup=9
    )
    g = torch.ones(110, 4, dtype=torch.float64)
    rows = steps_of(params, optimizer, g, [1e-3] * 110)
    ages, settling, age = [], [], None
    for t, (_, m, _) in enumerate(rows):
        if t > 0 and m[0].item() == 0.5:  # a first moment of one step
            age = 0
        age = None if age is None else age + 1
        ages.append(age)
        settling.append(settings.settling(t + 1))
    assert settling == [age is not None and age <= 9 for age in ages]
    assert sum(settling) == 4 * 9 and not small().optim.settling(10**6)
