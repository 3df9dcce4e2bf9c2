"""The rule that judges looks against an oracle that shares no code with it, over
random studies: noises, effects, ties, lost runs, levels, looks, and what is pursued.

tests/oracles/sequential.py lists what the rule's text leaves open.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from matrix.evidence import sequential, stats
from matrix.evidence.looks import judge
from matrix.evidence.sequential import Design, replay
from matrix.evidence.verdict import Contrast, Rule
from matrix.results.selection import Looks
from tests.oracles import sequential as oracle

LOOKS = [
    *((6, 8, 10, 12), (6, 8, 10, 12), (8, 10, 12), (6, 9, 12), (7, 12)),
    *((6,), (8,), (6, 7, 8, 9, 10), (3, 6, 9), (2, 10)),
]
ALPHAS = (0.05, 0.01, 0.2, 2 / 2**6)
"""The last is the least sign-flip p of six seeds."""
PURSUITS = ("gain", "equality", "worse")
NOISES = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed": lambda rng, shape: rng.exponential(1.0, shape) - 1.0,
}
STATES = {
    (sequential.LIVE): ("UNRESOLVED", {"live"}),
    (sequential.CLAIM): ("SUPPORTED", {"claim", "neutral", "futility"}),
    (sequential.EQUAL): ("NEUTRAL", {"neutral"}),
    (sequential.GIVEN_UP): ("UNRESOLVED", {"futility"}),
    (sequential.END): ("UNRESOLVED", {"end"}),
    (sequential.LOST): ("INVALID", {"lost"}),
    (sequential.FLAT): ("NON_DIAGNOSTIC", {"no spread"}),
}
"""What the oracle calls a state, and the reasons for which an arm in it stopped."""
RARE = 8
"""Every so many studies the intervals are compared too: they take most of the time."""


@dataclass(frozen=True)
class Study:
    """Differences [A, N], negative is better; how many of an arm's are there (N, or
    up to a lost run), the design, and after how many looks it is judged.
    """

    d_AN: np.ndarray
    ready: list[int]
    design: Design
    until: int

    def rows(self) -> dict[str, list[float | None]]:
        """The arms as the oracle takes them, None from a lost run on."""
        return {
            f"arm {i}": [float(x) if j < ready else None for j, x in enumerate(row)]
            for i, (row, ready) in enumerate(zip(self.d_AN, self.ready))
        }


def random_study(rng: np.random.Generator) -> Study:
    """A control and 1 to 8 arms that share the seeds' part of the noise."""
    looks = LOOKS[rng.integers(len(LOOKS))]
    m, last = int(rng.integers(1, 9)), looks[-1]
    smallest = float(rng.choice([0.002, 0.001, 0.004]))
    noise = NOISES[str(rng.choice(list(NOISES)))]
    spread = rng.choice([0.0003, 0.0013, 0.003]) * rng.choice([1, 1, 3], (m + 1, 1))
    r = float(rng.choice([0.0, 0.5, 0.9]))
    loss = math.sqrt(r) * noise(rng, last) + math.sqrt(1 - r) * noise(
        rng, (m + 1, last)
    )
    loss = loss * spread
    loss[1:] += rng.choice([0, 0, -1, 1, -0.5, -3, 2], (m, 1)) * smallest
    if rng.random() < 0.2:  # losses as a log prints them: equal differences, zeros
        loss = np.round(loss, 3)
    d = loss[1:] - loss[:1]
    for i in range(m):
        if rng.random() < 0.04:
            d[i] = rng.choice([0.0, -0.004, 0.1])
    ready = [int(rng.integers(last)) if rng.random() < 0.1 else last for _ in range(m)]
    alpha, pursue = float(rng.choice(ALPHAS)), str(rng.choice(PURSUITS))
    until = int(rng.integers(1, len(looks) + 1)) if rng.random() < 0.3 else len(looks)
    return Study(d, ready, Design(looks, alpha, smallest, pursue), until)


@cache
def laws(looks: tuple[int, ...]) -> oracle.Laws:
    """The sequences that the rule drew, for the oracle: where P steps is the same."""
    drawn = sequential.laws(looks)
    both = (drawn.two_sided.q_N.tolist(), drawn.one_sided.q_N.tolist())
    return oracle.Laws(looks, *both)


def decided(
    study: Study, intervals: bool, rows=None, lower_is_better: bool = True
) -> oracle.Decision:
    """The oracle's answer, to the study's differences or to these."""
    design = study.design
    return oracle.decide(
        study.rows() if rows is None else rows,
        design.looks,
        design.alpha,
        design.smallest,
        design.pursue,
        laws(design.looks),
        lower_is_better,
        study.until,
        intervals,
    )


def expected(study: Study, intervals: bool) -> list[oracle.Arm]:
    return list(decided(study, intervals).arms.values())


def replayed(study: Study) -> sequential.Replay:
    """The rule's answer; what lies behind a lost run or the last look is rubbish."""
    seen = study.design.looks[study.until - 1]
    d_AN = study.d_AN.copy()
    for row, ready in zip(d_AN, study.ready):
        row[min(ready, seen) :] = np.nan
    ready = [min(each, seen) for each in study.ready]
    lost = [each < seen for each in study.ready]
    return replay(d_AN, study.design, np.array(ready), np.array(lost))


def compare(study: Study, intervals: bool) -> None:
    result, design = replayed(study), study.design
    step = 2 / (sequential.DRAWS + 1)  # one sequence more or less, by rounding
    levels = [each.level for each in stats.holm(result.p_XA.tolist(), design.alpha)]
    for i, arm in enumerate(expected(study, intervals)):
        outcome, reasons = STATES[int(result.state_XA[i])]
        assert (arm.outcome, arm.reason in reasons) == (outcome, True), (i, arm, result)
        assert result.p_XA[i] == pytest.approx(arm.p, abs=step)
        assert result.adjusted_XA[i] == pytest.approx(arm.holm, abs=8 * step)
        equivalence = pytest.approx(arm.equivalence_holm, abs=8 * step)
        assert result.equivalence_XA[i] == equivalence
        if not arm.judged:
            continue
        assert (result.look_XA[i], result.n_XA[i]) == (arm.look, arm.n)
        assert result.q_XA[i] == pytest.approx(arm.Q, rel=1e-9)
        assert result.mean_XA[i] == pytest.approx(oracle.mean_of(arm.d[: arm.n]))
        if not np.isnan(result.flip_XA[i]):
            assert result.flip_XA[i] == arm.flip
        if arm.outcome == "SUPPORTED":
            assert (result.mean_XA[i] < 0) == (arm.direction == "better")
        if intervals:
            assert levels[i] == arm.level
            last = int(result.look_XA[i])
            ends = sequential.repeated_interval(arm.d, design.looks, last, levels[i])
            if arm.interval is None:
                assert ends[0] >= ends[1]
            else:
                assert ends == pytest.approx(arm.interval, abs=1e-9)


def compare_many(seed: int, studies: int) -> dict[str, int]:
    """Compare so many; how often each reason to stop came up, and late claims."""
    rng, met = np.random.default_rng(seed), {}
    for index in range(studies):
        study = random_study(rng)
        compare(study, intervals=index % RARE == 0)
        for arm in expected(study, False):
            reason = "late" if (arm.claimed or 0) > arm.look else arm.reason
            met[reason] = met.get(reason, 0) + 1
    return met


def test_the_rule_and_the_oracle_agree():
    met = compare_many(1, 1000)
    reasons = {"claim", "late", "neutral", "futility", "end", "live", "lost"}
    assert reasons | {"no spread"} == set(met)
    assert met["late"] >= 5, met


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_the_rule_and_the_oracle_agree_often(seed):
    compare_many(seed, 5000)


@pytest.mark.parametrize("looks", [(6, 8, 10, 12), (7, 12)])
def test_the_laws_are_those_of_the_oracle(looks):
    """The same sequences, so the same values; one run in two halves has them all."""
    expected = oracle.boundary(looks, 20_000, 5)
    drawn = sequential.laws(looks, 20_000, 5)
    assert drawn.two_sided.q_N == pytest.approx(np.array(expected.two_sided), rel=1e-9)
    assert drawn.one_sided.q_N == pytest.approx(np.array(expected.one_sided), rel=1e-9)


@pytest.fixture
def quick(monkeypatch):
    """Without the numbers that decide nothing and take most of the time."""
    monkeypatch.setattr(stats, "visible", lambda n, sd, alpha, flip: 0.0)
    monkeypatch.setattr(stats, "seeds_needed", lambda sd, difference, alpha, flip: 6)
    monkeypatch.setattr(stats, "outliers", lambda d: ())


def compare_verdicts(study: Study, rng: np.random.Generator, lower: bool) -> None:
    """The same study as losses by seed, a loss as a lost run, the seeds in any order."""
    design, last = study.design, study.design.looks[-1]
    seeds = [int(seed) for seed in rng.permutation(np.arange(101, 101 + last))]
    seen = seeds[: design.looks[study.until - 1]]
    control = dict(zip(seeds, rng.normal(3.3, 0.0013, last)))
    contrasts, rows = [], {}
    for (step, row), d, ready in zip(study.rows().items(), study.d_AN, study.ready):
        value = {seed: control[seed] + x for seed, x in zip(seeds, d)}
        rows[step] = [value[seed] - control[seed] for seed in seeds]
        rows[step][ready:] = [None] * (last - ready)
        arm = {seed: value[seed] for seed in seen if seed not in seeds[ready:]}
        lost = {seed: "diverged" for seed in seeds[ready:] if seed in seen}
        ran = {seed: control[seed] for seed in seen}
        contrasts.append(Contrast(step, arm, ran, lost=lost))
    answer = decided(study, True, rows, lower)
    rule = Rule(design.alpha, design.smallest, lower)
    looks = Looks(design.looks, tuple(seeds), design.pursue)
    verdicts, progress = judge(contrasts, "control", rule, looks)
    assert progress.judged == answer.looks_used
    for verdict, arm in zip(verdicts, answer.arms.values()):
        assert (verdict.outcome, verdict.direction) == (
            arm.outcome,
            arm.direction or "",
        )
        if not arm.judged:
            assert verdict.measured is None
            continue
        measured = verdict.measured
        assert (verdict.look.number, len(verdict.differences)) == (arm.look, arm.n)
        assert verdict.look.p == pytest.approx(arm.p, abs=1e-5)
        assert measured.adjusted == pytest.approx(arm.holm, abs=1e-4)
        assert (measured.level, measured.flip) == (arm.level, arm.flip)
        if arm.interval is not None:
            assert measured.interval == pytest.approx(arm.interval, abs=1e-9)
    live = any(arm.reason == "live" for arm in answer.arms.values())
    assert progress.over != live
    if not live and all(arm.outcome != "INVALID" for arm in answer.arms.values()):
        assert sum(progress.needs.values()) == answer.runs


def compare_many_verdicts(seed: int, studies: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(studies):
        compare_verdicts(random_study(rng), rng, lower=bool(rng.integers(2)))


def test_the_verdicts_are_the_oracles(quick):
    compare_many_verdicts(21, 100)


@pytest.mark.slow
def test_the_verdicts_are_the_oracles_often(quick):
    compare_many_verdicts(22, 1500)
