"""What seeds can see and what limits a claim, in words."""

from dataclasses import replace

import pytest

from matrix.evidence import planning, stats
from matrix.evidence.planning import Planning, Spread
from matrix.report import planning_text
from matrix.results.metrics import METRICS
from matrix.results.selection import Terms
from tests.matrix.imagined import MEASURED, PLANNING, evidence, verdict

D = {2: -0.01, 5: -0.02, 9: -0.0123}
SIX = (2, 4, 6, 8, 10, 12)
OPEN = verdict("11-open", "UNRESOLVED", {2: 0.001}, measured={})
LOST = verdict("06-lost", "INVALID", {}, reasons=("seed 2 failed",))


def planned(**changes) -> Planning:
    return replace(PLANNING, **changes)


def claim(word="SUPPORTED", **numbers):
    return verdict("03-arm", word, D, direction="better", measured=numbers)


@pytest.mark.parametrize(
    "needed, text",
    [
        ((11, 46), "11–46 seeds"),
        ((6, 6), "6 seeds"),
        ((40, None), "40 to over 10,000 seeds"),
        ((None, None), "over 10,000 seeds"),
    ],
)
def test_a_number_of_seeds_is_a_range(needed, text):
    assert planning_text.seeds(needed) == text
    arm = verdict("a", "UNRESOLVED", D, measured={"planning": planned(needed=needed)})
    assert planning_text.could_have_seen(evidence([arm]), arm) == (
        f"could have seen 0.00410–0.00830 (80 % power); 0.00200 takes {text}"
    )


def test_what_an_open_arm_could_have_seen():
    none = evidence([OPEN], Terms(smallest=None))
    assert planning_text.could_have_seen(none, OPEN) == (
        "could have seen 0.00410–0.00830 (80 % power); no smallest effect of interest "
        "was named"
    )
    near = {"narrow": (-0.0019, 0.0012), "equivalence": 0.12}
    arm = verdict("a", "UNRESOLVED", D, measured=near)
    assert planning_text.could_have_seen(evidence([arm]), arm).endswith(
        "; its 90 % interval lies within ± 0.00200, but not over the family (p 0.12)"
    )
    for other in (claim(), LOST, verdict("a", "A/A", D, measured={"planning": None})):
        assert planning_text.could_have_seen(evidence([other]), other) == ""


SMALL = "smaller than the smallest effect of interest, 0.00200"
POOR = (
    "a true difference of 0.00200 would be seen with power 0.24 (0.12–0.41); what is "
    "found at such power is 1.1–1.3 times too large on average"
)


@pytest.mark.parametrize("word", ["SUPPORTED", "LIMITED"])
@pytest.mark.parametrize(
    "ends, power, text",
    [
        ((-0.0019, -0.0001), (0.12, 0.24, 0.41), f"{SMALL}; {POOR}"),
        ((-0.0021, -0.0001), (0.12, 0.24, 0.41), POOR),
        ((-0.0019, -0.0001), (0.6, 0.8, 0.9), SMALL),
        ((0.0001, 0.0019), (0.6, 0.8, 0.9), SMALL),
        ((-0.019, -0.007), (0.6, 0.8, 0.9), ""),
    ],
    ids=["both", "poor", "small", "small-worse", "sound"],
)
def test_what_limits_a_claim(word, ends, power, text):
    arm = claim(word, interval=ends, planning=planned(power=power))
    assert planning_text.limits_of_a_claim(evidence([arm]), arm) == text


def test_what_limits_no_claim():
    arm = claim(interval=(-0.0019, -0.0001))
    assert (
        planning_text.limits_of_a_claim(evidence([arm], Terms(smallest=None)), arm)
        == ""
    )
    for word in ("UNRESOLVED", "NEUTRAL", "A/A"):
        other = verdict("a", word, D, measured={"interval": (-0.0019, -0.0001)})
        assert planning_text.limits_of_a_claim(evidence([other]), other) == ""
    speed = Terms(METRICS["tokens_per_s"], smallest=50.0)
    assert "difference of 50 would be seen" in planning_text.limits_of_a_claim(
        evidence([claim()], speed), claim()
    )


@pytest.mark.parametrize(
    "n, alpha, most, fewest",
    [
        (3, 0.05, "LIMITED at most", 6),
        (5, 0.05, "LIMITED at most", 6),
        (6, 0.05, "SUPPORTED is possible", 6),
        (7, 0.01, "LIMITED at most", 8),
        (8, 0.01, "SUPPORTED is possible", 8),
    ],
)
def test_what_n_and_m_allow(monkeypatch, n, alpha, most, fewest):
    """At the spread of all arms, for the first of m; α/m for t, α for the flips."""
    asked = []
    monkeypatch.setattr(planning, "plan", lambda *a: asked.append(a) or PLANNING)
    terms = Terms(smallest=0.003, alpha=alpha)
    arms = [verdict(k, "UNRESOLVED", D, measured={}) for k in "abc"]
    seeds = tuple(range(2, 2 + 2 * n, 2))
    aa = verdict("x", "A/A", D, measured={"planning": None})
    made = evidence([aa, *arms, LOST], terms, seeds=seeds)
    text = planning_text.what_is_possible(made)
    assert asked == [(n, PLANNING.spread, alpha / 4, alpha, fewest, 0.003)]
    assert text == (
        f"{n} seeds, 4 arms in the family: {most}. SD of a difference, over all arms: "
        "0.00310 (95 % 0.00230–0.00480, 15 degrees of freedom). The first true one is "
        "seen with 80 % power from 0.00410–0.00830 on; 0.00300 would take 11–46 seeds."
    )


def test_what_is_left_out_of_what_is_allowed():
    one = evidence([OPEN], Terms(smallest=None), seeds=SIX)
    spread = PLANNING.spread
    low, high = (stats.visible(6, x, 0.05, 0.05) for x in (spread.low, spread.high))
    assert planning_text.what_is_possible(one).endswith(
        f"from {low:.5f}–{high:.5f} on."
    )
    assert planning_text.what_is_possible(evidence([LOST], seeds=SIX)) == (
        "6 seeds, 1 arm in the family: SUPPORTED is possible."
    )
    assert planning_text.what_is_possible(evidence([OPEN], seeds=(5,))) == (
        "1 seed, 1 arm in the family: nothing can be said."
    )
    one = Spread(0.001, 1, 0.0004, 0.03)
    arm = replace(OPEN, measured=replace(MEASURED, planning=planned(spread=one)))
    text = planning_text.what_is_possible(evidence([arm], seeds=SIX))
    assert "1 degree of freedom)" in text
