"""The answer to a study's question: one line per arm, and one sentence."""

from typing import Callable

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import AA, LIMITED, NEUTRAL, SUPPORTED, UNRESOLVED
from matrix.evidence.verdict import Verdict
from matrix.evidence.weigh import Evidence
from matrix.report import text_error, verdict_text
from matrix.report.document import Column, Table
from matrix.report.numbers import difference, interval, magnitude, p_value
from matrix.results.metrics import VAL_LOSS
from matrix.results.rows import mean


def question(report: Report) -> str:
    """What the study compares, by what, and how the differences below are meant."""
    evidence, terms = report.evidence, report.evidence.terms
    arms = units.plural(len(evidence.family), "arm")
    again = f" and {units.plural(len(evidence.aa), 'A/A arm')}" if evidence.aa else ""
    does = "do" if len(evidence.family) + len(evidence.aa) != 1 else "does"
    smallest = ""
    if terms.smallest is not None:
        effect = f"{magnitude(evidence, terms.smallest)} {terms.metric.unit}"
        smallest = f" The smallest effect of interest is {effect}."
    better = "lower" if terms.metric.lower_is_better else "higher"
    value = mean(
        found
        for found in report.rows[0].measured(terms.metric, terms.last_evals).values()
        if found is not None
    )
    at = "" if value is None else f" The control's is {_value(evidence, value)}."
    return (
        f"How {does} {arms}{again} compare with the control {evidence.control} in "
        f"{evidence.about}?{at} Differences are arm minus control, paired by seed: {better} "
        f"is better.{smallest}"
    )


def _value(evidence: Evidence, value: float) -> str:
    return units.loss(value) if evidence.terms.metric.evaluated else f"{value:.5g}"


def table(report: Report) -> Table:
    """A line per arm: verdict, difference, interval with its level, pairs."""
    evidence = report.evidence
    columns = (
        Column("Step", "code"),
        Column("Verdict", "word"),
        Column(f"Difference, {evidence.terms.metric.unit}"),
        Column("Interval"),
        Column("Seeds"),
    )
    lines = []
    for verdict in evidence.verdicts:
        found, shown, ends = verdict.measured, units.DASH, units.DASH
        if found is not None:
            shown = difference(evidence, found.difference)
            ends = f"{interval(evidence, found.interval)} {verdict_text.level(verdict)}"
        n = str(len(verdict.differences))
        lines.append((verdict.step, verdict.label, shown, ends, n))
    return Table(columns, tuple(lines))


def sentences(report: Report) -> Table:
    """Every arm with its sentence and what a reader must know of it."""
    evidence = report.evidence
    columns = (Column("Step", "code"), Column("In words", "text"))
    return Table(
        columns, tuple((v.step, sentence(evidence, v)) for v in evidence.verdicts)
    )


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """lowers the validation loss by 0.0040 nats/token (99.2 % interval 0.0027 to 0.0053, 6 seeds):
    SUPPORTED better. What limits it follows.
    """
    text = verdict.label
    if verdict.measured is not None:
        say = PREDICATES.get(verdict.outcome, _differs)
        text = f"{say(evidence, verdict)}: {verdict.label}"
    more = [verdict_text.remarks(evidence, verdict)]
    more.append(text_error.phrase(evidence, verdict))
    return f"{'; '.join([text, *filter(None, more)])}."


def _seeds(verdict: Verdict) -> str:
    return units.plural(len(verdict.differences), "seed")


def _name(evidence: Evidence) -> str:
    metric = evidence.terms.metric
    return "the validation loss" if metric == VAL_LOSS else metric.name


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
