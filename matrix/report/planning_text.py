"""What the seeds could see and what they would take, in words; always as ranges."""

from matrix import units
from matrix.evidence import planning, stats
from matrix.evidence.planning import Planning
from matrix.evidence.verdict import FEWEST, LIMITED, SUPPORTED, UNRESOLVED, Verdict
from matrix.evidence.weigh import Evidence
from matrix.report.numbers import magnitude


def span(low: str, high: str) -> str:
    """low–high, or the one number that both are."""
    return low if low == high else f"{low}–{high}"


def seeds(needed: tuple[int | None, int | None]) -> str:
    """11–46 seeds; an end that is None is over stats.MOST_SEEDS."""
    over = f"over {stats.MOST_SEEDS:,}"
    low, high = (over if n is None else f"{n:,}" for n in needed)
    return (
        f"{low} to {high} seeds" if high == over != low else f"{span(low, high)} seeds"
    )


def could_have_seen(evidence: Evidence, verdict: Verdict) -> str:
    """Of an UNRESOLVED arm: the difference that was in reach, and what s takes."""
    found = verdict.measured
    if verdict.outcome != UNRESOLVED or found is None or found.planning is None:
        return ""
    able, smallest = found.planning, evidence.terms.smallest
    seen = span(*(magnitude(evidence, value) for value in able.visible))
    text = f"could have seen {seen} (80 % power)"
    if smallest is None or able.needed is None:
        return text + "; no smallest effect of interest was named"
    text += f"; {magnitude(evidence, smallest)} takes {seeds(able.needed)}"
    if -smallest < found.narrow[0] and found.narrow[1] < smallest:
        text += (
            f"; its 90 % interval lies within ± {magnitude(evidence, smallest)}, but not "
            f"over the family (p {found.equivalence:.2g})"
        )
    return text


def limits_of_a_claim(evidence: Evidence, verdict: Verdict) -> str:
    """Of a SUPPORTED or LIMITED arm: an effect that is too small to matter, and one that
    was found at little power, unless its interval holds no effect as small as the
    smallest of interest.
    """
    found, smallest = verdict.measured, evidence.terms.smallest
    if verdict.outcome not in (SUPPORTED, LIMITED) or found is None or smallest is None:
        return ""
    parts, named = [], magnitude(evidence, smallest)
    if max(map(abs, found.interval)) < smallest:
        parts.append(f"smaller than the smallest effect of interest, {named}")
    if found.planning is not None and min(map(abs, found.interval)) < smallest:
        parts += _exaggerated(found.planning, named)
    return "; ".join(parts)


def _exaggerated(able: Planning, smallest: str) -> list[str]:
    """Where a true difference of the smallest effect is seen with less than 80 %."""
    if able.power is None or able.exaggeration is None or able.power[1] >= stats.POWER:
        return []
    low, middle, high = (f"{power:.2f}" for power in able.power)
    factor = span(*(f"{factor:.1f}" for factor in able.exaggeration))
    return [
        f"a true difference of {smallest} would be seen with power {middle} "
        f"({span(low, high)}); what is found at such power is {factor} times too large "
        "on average"
    ]


def what_is_possible(evidence: Evidence) -> str:
    """What the number of seeds and of arms allows, at the noise that was measured."""
    n, m = len(evidence.seeds), max(1, len(evidence.family))
    rule, most = evidence.rule, "nothing can be said"
    if n >= FEWEST:
        most = "LIMITED at most" if n < rule.fewest else "SUPPORTED is possible"
    text = f"{units.plural(n, 'seed')}, {units.plural(m, 'arm')} in the family: {most}"
    plans = [v.measured.planning for v in evidence.verdicts if v.measured]
    spread = next((each.spread for each in plans if each), None)
    if n < FEWEST or spread is None:
        return text + "."
    smallest, level = evidence.terms.smallest, rule.alpha / m
    able = planning.plan(n, spread, level, rule.alpha, rule.fewest, smallest)
    ends = span(*(magnitude(evidence, end) for end in (spread.low, spread.high)))
    seen = span(*(magnitude(evidence, value) for value in able.visible))
    text += (
        f". SD of a difference, over all arms: {magnitude(evidence, spread.sd)} (95 % "
        f"{ends}, {units.plural(spread.df, 'degree')} of freedom). The first true one is "
        f"seen with 80 % power from {seen} on"
    )
    if smallest is None or able.needed is None:
        return text + "."
    return f"{text}; {magnitude(evidence, smallest)} would take {seeds(able.needed)}."
