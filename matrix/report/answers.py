"""The answer to a study's question: one sentence per arm."""

from typing import Callable

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import AA, LIMITED, NEUTRAL, SUPPORTED, UNRESOLVED
from matrix.evidence.verdict import Verdict
from matrix.evidence.weigh import Evidence
from matrix.report import verdict_text
from matrix.report.document import Column, Table
from matrix.report.numbers import difference, magnitude, p_value
from matrix.results.metrics import VAL_LOSS


def question(report: Report) -> str:
    """What the study compares, by what, and what was settled for it."""
    evidence, terms = report.evidence, report.evidence.terms
    arms = units.plural(len(evidence.family), "arm")
    again = f" and {len(evidence.aa)} A/A" if evidence.aa else ""
    smallest = "none named"
    if terms.smallest is not None:
        smallest = f"{magnitude(evidence, terms.smallest)} {terms.metric.unit}"
    better = "lower" if terms.metric.lower_is_better else "higher"
    return (
        f"Question: how do {arms}{again} compare with the control {evidence.control} in "
        f"{evidence.about}? Better is {better}. Smallest effect of interest: {smallest}. "
        f"Level {terms.alpha:g}, Holm over {len(evidence.family)}. Seeds "
        f"{units.numbers_in(evidence.seeds)}."
    )


def table(report: Report) -> Table:
    """Every arm with its sentence."""
    columns = (Column("", "code"), Column("", "text"))
    return Table(
        columns,
        tuple((v.step, sentence(report.evidence, v)) for v in report.evidence.verdicts),
    )


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """lowers the loss by 0.0040 nats/token (99.2 % interval 0.0027 to 0.0053, 6 seeds):
    SUPPORTED better. What limits it follows.
    """
    text = verdict.label
    if verdict.measured is not None:
        say = PREDICATES.get(verdict.outcome, _differs)
        text = f"{say(evidence, verdict)}: {verdict.label}"
    cause = verdict_text.cause(evidence, verdict)
    return f"{text}; {cause}." if cause else f"{text}."


def _seeds(verdict: Verdict) -> str:
    return units.plural(len(verdict.differences), "seed")


def _name(evidence: Evidence) -> str:
    metric = evidence.terms.metric
    return "the loss" if metric == VAL_LOSS else metric.name


def _moves(evidence: Evidence, verdict: Verdict) -> str:
    """Of a claim, whose interval is on one side of 0."""
    found, unit = verdict.measured, evidence.terms.metric.unit
    verb = "lowers" if found.difference < 0 else "raises"
    low, high = sorted(map(abs, found.interval))
    return (
        f"{verb} {_name(evidence)} by {magnitude(evidence, abs(found.difference))} {unit} "
        f"({verdict_text.level(verdict)} interval {magnitude(evidence, low)} to "
        f"{magnitude(evidence, high)}, {_seeds(verdict)})"
    )


def _changes_little(evidence: Evidence, verdict: Verdict) -> str:
    """Of NEUTRAL."""
    smallest, unit = evidence.terms.smallest, evidence.terms.metric.unit
    ends = [difference(evidence, end) for end in verdict.measured.narrow]
    return (
        f"changes {_name(evidence)} by less than {magnitude(evidence, smallest)} {unit} "
        f"(90 % interval {ends[0]} to {ends[1]}, {_seeds(verdict)})"
    )


def _differs(evidence: Evidence, verdict: Verdict) -> str:
    """Of what is no claim."""
    found, unit = verdict.measured, evidence.terms.metric.unit
    ends = [difference(evidence, end) for end in found.interval]
    seeds = _seeds(verdict)
    if verdict.outcome == UNRESOLVED:
        seeds = f"{_signs(evidence, verdict)}, Holm p {p_value(found.adjusted)}"
    return (
        f"measured {difference(evidence, found.difference)} {unit} "
        f"({verdict_text.level(verdict)} interval {ends[0]} to {ends[1]}, {seeds})"
    )


def _signs(evidence: Evidence, verdict: Verdict) -> str:
    """worse in 6 of 6 seeds: the direction that more of them have."""
    sign = 1 if evidence.terms.metric.lower_is_better else -1
    d = [sign * each for each in verdict.differences.values()]
    worse, better = sum(each > 0 for each in d), sum(each < 0 for each in d)
    word, count = ("worse", worse) if worse >= better else ("better", better)
    return f"{word} in {count} of {_seeds(verdict)}"


PREDICATES: dict[str, Callable[[Evidence, Verdict], str]] = {
    SUPPORTED: _moves,
    LIMITED: _moves,
    NEUTRAL: _changes_little,
    AA: _differs,
}
"""By outcome, how the sentence begins; of others `_differs`."""
