"""Verdicts in words and numbers, for the terminal and for the report's tables."""

from statistics import median
from typing import Sequence

from matrix import units
from matrix.evidence import stats
from matrix.evidence.gather import Report
from matrix.evidence.verdict import AA, FEWEST, UNRESOLVED, Verdict
from matrix.evidence.weigh import Evidence
from matrix.report import look_text, registration_text
from matrix.results.selection import SCREEN


def difference(evidence: Evidence, value: float | None) -> str:
    """A difference with its sign: five decimals of a loss, four digits of the rest."""
    if value is None or not evidence.terms.metric.evaluated:
        return units.DASH if value is None else f"{value:+.4g}"
    return units.signed(value)


def magnitude(evidence: Evidence, value: float) -> str:
    """The same without a sign."""
    return difference(evidence, value).lstrip("+")


def interval(evidence: Evidence, ends: tuple[float, float]) -> str:
    """[low, high]."""
    return f"[{difference(evidence, ends[0])}, {difference(evidence, ends[1])}]"


def p_value(p: float) -> str:
    """A p value with two digits."""
    return f"{p:.2g}"


def by_seed(evidence: Evidence, verdict: Verdict) -> str:
    """Every seed's difference; an asterisk marks an outlier."""
    return ", ".join(
        f"{seed}: {difference(evidence, d)}{'*' if seed in verdict.outliers else ''}"
        for seed, d in verdict.differences.items()
    )


def cause(evidence: Evidence, verdict: Verdict) -> str:
    """Why a verdict is not a claim: its reasons, or what the runs could have seen."""
    found = verdict.measured
    if verdict.outcome == AA:
        return "the control again: noise floor, no claim"
    if verdict.look is not None:
        return look_text.cause(verdict)
    if verdict.outcome != UNRESOLVED or found is None:
        return "; ".join(verdict.reasons)
    text = f"could have seen {magnitude(evidence, found.visible)} (80 % power)"
    if evidence.terms.smallest is None:
        return text + "; no smallest effect of interest was named"
    needed = (
        f"{found.needed} seeds" if found.needed else f"over {stats.MOST_SEEDS:,} seeds"
    )
    return f"{text}; {magnitude(evidence, evidence.terms.smallest)} takes {needed}"


def explain(report: Report, steps: Sequence[str]) -> list[str]:
    """The verdicts on these steps as paragraphs, with their run directories."""
    evidence = report.evidence
    paragraphs = []
    for step in steps:
        verdict = evidence.of(step)
        lines = [f"{step} against {evidence.control}: {word(report, verdict)}"]
        why = cause(evidence, verdict)
        lines += [why] if why else []
        lines += _numbers(evidence, verdict)
        if verdict.differences:
            lines.append(f"by seed {by_seed(evidence, verdict)}")
        if verdict.outliers:
            lines.append(outlier_note(verdict))
        for row in report.rows:
            if row.step in (step, evidence.control):
                dirs = " ".join(run.run_dir for run in row.runs.values())
                lines.append(f"runs {dirs or units.DASH}")
        paragraphs.append("\n  ".join(lines))
    paragraphs.append(f"{evidence.about}\n{what_is_possible(evidence)}")
    return paragraphs


def _numbers(evidence: Evidence, verdict: Verdict) -> list[str]:
    """Difference, intervals, p values and correlation, where they exist."""
    found = verdict.measured
    if found is None:
        return []
    n = len(verdict.differences)
    at = [] if verdict.look is None else [_look(verdict)]
    lines = [
        *at,
        f"difference {difference(evidence, found.difference)}, "
        f"{100 * (1 - found.level):.4g} % interval {interval(evidence, found.interval)}, "
        f"90 % {interval(evidence, found.narrow)}",
        f"p {p_value(found.p)} (paired t, {n - 1} degrees of freedom), "
        f"Holm {p_value(found.adjusted)}, sign flip {p_value(found.flip)}, "
        f"SD {magnitude(evidence, found.sd)}, r {correlation(verdict)}",
    ]
    if found.bca is not None:
        lines.append(
            f"BCa bootstrap 95 % (description) {interval(evidence, found.bca)}"
        )
    return lines


def _look(verdict: Verdict) -> str:
    """Where a sequential arm stands and its repeated p, which Holm adjusts."""
    return (
        f"{look_text.place(verdict)}, repeated p {p_value(verdict.look.p)}; the interval "
        "below is the repeated one, p that of these seeds alone"
    )


def correlation(verdict: Verdict) -> str:
    """The measured correlation of the pair."""
    return units.DASH if verdict.r is None else f"{verdict.r:+.2f}"


def outlier_note(verdict: Verdict) -> str:
    """Which seeds stand apart."""
    return (
        f"outlier: seed {units.numbers_in(verdict.outliers)} does not fit the others; "
        "it is kept, look at its run"
    )


def what_is_possible(evidence: Evidence) -> str:
    """What the number of seeds and of arms allows, at the noise that was measured."""
    if evidence.progress is not None:
        return look_text.line(evidence)
    n, m = len(evidence.seeds), max(1, len(evidence.family))
    rule, most = evidence.rule, "nothing can be said"
    if n >= FEWEST:
        most = "LIMITED at most" if n < rule.fewest else "SUPPORTED is possible"
    text = f"{units.plural(n, 'seed')}, {units.plural(m, 'arm')} in the family: {most}"
    found = [v.measured.sd for v in evidence.verdicts if v.measured]
    if n < FEWEST or not found:
        return text + "."
    level = evidence.terms.alpha / m
    flip = rule.alpha if n >= rule.fewest else None
    seen = stats.visible(n, median(found), level, flip)
    text += (
        f". At the median SD of the differences, {magnitude(evidence, median(found))}, the "
        f"first true one is seen with 80 % power from {magnitude(evidence, seen)} on"
    )
    smallest = evidence.terms.smallest
    if smallest is None:
        return text + "."
    needed = stats.seeds_needed(median(found), smallest, level, rule.alpha)
    count = f"over {stats.MOST_SEEDS:,}"
    if needed is not None:
        count = str(max(needed, rule.fewest))
    return f"{text}; {magnitude(evidence, smallest)} would take {count} seeds."


def floor_warning(evidence: Evidence) -> list[str]:
    """A/A arms whose 1 − α interval excludes 0: more than chance differs, or bad luck."""
    return [
        f"the A/A arm {verdict.step} differs from its control (p "
        f"{p_value(verdict.measured.p)}): expected of a share of {evidence.terms.alpha:g}, "
        "otherwise a sign that something beside the salt differs"
        for verdict in evidence.verdicts
        if verdict.outcome == AA and verdict.measured.p <= evidence.terms.alpha
    ]


def summary(report: Report) -> list[str]:
    """What kind of statement the report makes, in a paragraph or two."""
    evidence = report.evidence
    if not evidence.verdicts:
        return ["One step: there is nothing that a verdict could be about."]
    if evidence.terms.stage == SCREEN:
        return ["A screening: it ranks the arms and claims nothing about any of them."]
    told = [verdict.label for verdict in evidence.verdicts if verdict.outcome != AA]
    counts = [f"{told.count(each)} {each}" for each in units.distinct(told)]
    text = f"Verdicts: {', '.join(counts) or 'none, every arm is an A/A'}. "
    return [text + what_is_possible(evidence)]


def word(report: Report, verdict: Verdict) -> str:
    """The verdict and, beside it, whether it was announced and what deviates."""
    if verdict.outcome == AA:
        return verdict.label
    return f"{verdict.label} ({registration_text.standing(report)})"


def one_line(report: Report) -> list[str]:
    """STEP: VERDICT (not preregistered), difference [interval]; then every deviation.

    For the end of a terminal table.
    """
    evidence, lines = report.evidence, []
    if evidence.terms.stage == SCREEN:
        return []
    for verdict in evidence.verdicts:
        found, why = verdict.measured, cause(evidence, verdict)
        parts = [f"{verdict.step}: {word(report, verdict)}"]
        if found is not None:
            ends = interval(evidence, found.interval)
            parts.append(f"{difference(evidence, found.difference)} {ends}")
        lines.append(", ".join([*parts, *([why] if why else [])]))
    against = registration_text.deviations(report) if lines else ()
    return [*lines, *(f"deviation: {line}" for line in against)]
