"""How often the rule is wrong, and how often it sees what is there, by simulation.

A study is n seeds of a control and m arms, losses with the seed's part in common
(correlation r). Bounds are what docs/evidence.md promises plus three standard errors
of the simulation.
"""

import math

import numpy as np
import pytest

from matrix.evidence import planning, stats
from matrix.evidence.verdict import Contrast, Rule, decide

RULE = Rule()
SD = 0.0013  # nats/token over the seeds
LEVEL = 0.05
KINDS = {
    "normal": lambda random, shape: random.normal(0, 1, shape),
    "t3": lambda random, shape: random.standard_t(3, shape),
    "skewed": lambda random, shape: random.exponential(1.0, shape) - 1.0,
    "unequal": lambda random, shape: random.normal(0, 1, shape),
}
UNEQUAL = 3.0  # how much more the arms spread than the control


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without the numbers that decide nothing and take most of the time."""
    monkeypatch.setattr(planning, "plan", lambda *settled: None)
    monkeypatch.setattr(stats, "outliers", lambda d: ())
    monkeypatch.setattr(stats, "correlation", lambda a, b: None)


def losses(random, n: int, m: int, r: float, kind: str = "normal") -> np.ndarray:
    """(m + 1, n) losses, the control first: √r · seed's + √(1 − r) · own, times SD."""
    draw = KINDS[kind]
    own = draw(random, (m + 1, n))
    if kind == "unequal":
        own[1:] *= UNEQUAL
    shared = draw(random, n)
    return 3.3 + SD * (math.sqrt(r) * shared + math.sqrt(1 - r) * own)


def verdicts(drawn: np.ndarray):
    """The verdicts on the arms of a study."""
    control, *arms = (dict(enumerate(row)) for row in drawn)
    return decide([Contrast("x", arm, control) for arm in arms], RULE)


def false_claims(studies: int, n: int, m: int, r: float, kind: str = "normal") -> float:
    """The share of studies without any difference in which an arm was claimed."""
    random = np.random.default_rng([studies, n, m, int(100 * r), len(kind)])
    return np.mean(
        [
            any(v.direction for v in verdicts(losses(random, n, m, r, kind)))
            for _ in range(studies)
        ]
    )


def false_neutrals(
    studies: int,
    n: int,
    r: float,
    kind: str = "normal",
    m: int = 1,
    alone: bool = False,
) -> float:
    """The share of studies, all m arms of which differ by the smallest effect, with a
    NEUTRAL arm; `alone`: with one whose own 90 % interval lies within ± that effect.
    """
    random = np.random.default_rng([studies, n, int(100 * r), len(kind)])
    found = 0
    for _ in range(studies):
        drawn = losses(random, n, m, r, kind)
        drawn[1:] += RULE.smallest
        made = verdicts(drawn)
        if alone:
            inside = [max(map(abs, v.measured.narrow)) < RULE.smallest for v in made]
        else:
            inside = [v.outcome == "NEUTRAL" for v in made]
        found += any(inside)
    return found / studies


def error(rate: float, studies: int) -> float:
    """Three standard errors of a simulated rate."""
    return 3 * math.sqrt(rate * (1 - rate) / studies)


@pytest.mark.parametrize(
    "n, m, kind, studies",
    [
        (6, 1, "normal", 1500),
        (3, 1, "normal", 1500),
        (6, 18, "normal", 250),
        (6, 1, "t3", 1000),
        (6, 1, "unequal", 1000),
    ],
)
def test_few_false_claims(n, m, kind, studies):
    claims = false_claims(studies, n, m, 0.5, kind)
    assert 0.0 < claims <= LEVEL + error(LEVEL, studies)


def test_few_false_neutrals():
    """At a true difference of exactly the smallest effect of interest."""
    assert 0.0 < false_neutrals(1500, 6, 0.8) <= LEVEL + error(LEVEL, 1500)


def test_few_false_neutrals_among_eighteen():
    """Each judged alone, three studies of ten would call some arm NEUTRAL."""
    assert false_neutrals(400, 6, 0.8, m=18, alone=True) > 0.25
    assert false_neutrals(400, 6, 0.8, m=18) <= LEVEL + error(LEVEL, 400)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("m, studies", [(1, 3000), (18, 1200)])
@pytest.mark.parametrize("n", [3, 5, 6, 10])
def test_the_family_wise_error(n, m, studies, r, kind):
    claims = false_claims(studies, n, m, r, kind)
    assert claims <= LEVEL + error(LEVEL, studies)
    if (m, kind) == (1, "normal") and n <= 5:  # the t-test alone: it is exact
        assert claims == pytest.approx(LEVEL, abs=error(LEVEL, studies))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("n", [3, 5, 6, 10])
def test_the_error_of_neutral(n, r, kind):
    """Of one arm and of eighteen."""
    assert false_neutrals(3000, n, r, kind) <= LEVEL + error(LEVEL, 3000)
    assert false_neutrals(800, n, r, kind, m=18) <= LEVEL + error(LEVEL, 800)


@pytest.mark.slow
@pytest.mark.parametrize(
    "n, m, r, expected",
    [
        *[(n, 1, 0.5, p) for n, p in ((3, 0.34), (5, 0.74), (6, 0.69), (10, 0.99))],
        *[(n, 18, 0.5, p) for n, p in ((3, 0.03), (5, 0.13), (6, 0.24), (10, 0.75))],
        *[(n, 18, 0.8, p) for n, p in ((3, 0.06), (5, 0.41), (6, 0.68), (10, 1.0))],
    ],
)
def test_power_for_two_millinats(n, m, r, expected):
    """One true arm among m, beside arms that were lost (p = 1): the first Holm step."""
    random = np.random.default_rng([n, m, int(10 * r)])
    studies, found = 3000, 0
    lost = [Contrast("lost", {}, {}, invalid=("x",))] * (m - 1)
    for _ in range(studies):
        b, a = losses(random, n, 1, r)
        pair = Contrast("x", dict(enumerate(a - 0.002)), dict(enumerate(b)))
        found += decide([pair, *lost], RULE)[0].direction == "better"
    assert found / studies == pytest.approx(expected, abs=0.03)


def screened(random, seeds: int, fresh: bool, shared: bool = True) -> bool:
    """One study of 18 null arms: the best 4 of 3 seeds judged; is any claimed?

    On `seeds` fresh seeds, or on the screening's three and the rest fresh. The arms
    share a control, or every difference is independent of the others.
    """
    drawn = losses(random, seeds + 3, 18, 0.5)
    if not shared:
        drawn = SD * random.normal(0, 1, drawn.shape)
        drawn[0] = 0.0
    means = (drawn[1:, :3] - drawn[0, :3]).mean(axis=1)
    best = 1 + np.argsort(means)[:4]
    judged = slice(3, None) if fresh else slice(0, seeds)
    return any(v.direction for v in verdicts(drawn[[0, *best], judged]))


def test_screening_is_free_on_fresh_seeds():
    random = np.random.default_rng(3)
    claims = [screened(random, 8, fresh=True) for _ in range(400)]
    assert np.mean(claims) <= LEVEL + error(LEVEL, 400)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_error_of_screening(shared):
    """Fresh seeds keep the promised error. Re-used ones break it most where arms are
    independent: 8 to 9 %; through a control in common 6 %.
    """
    random = np.random.default_rng(4)
    fresh = np.mean([screened(random, 8, True, shared) for _ in range(3000)])
    again = np.mean([screened(random, 8, False, shared) for _ in range(3000)])
    assert fresh <= LEVEL + error(LEVEL, 3000) and fresh < again
    if not shared:
        assert again == pytest.approx(0.085, abs=error(0.085, 3000))
