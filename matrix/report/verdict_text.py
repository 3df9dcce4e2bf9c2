"""Verdicts in words and numbers, for the terminal and for the report's tables.

REMARKS are what stands beside a verdict in words, DETAILS its further numbers; the
terminal, the tables and `make verdict` all print both.
"""

import textwrap
from typing import Callable, Sequence

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import AA, Verdict
from matrix.evidence.weigh import Evidence
from matrix.report import look_text, planning_text, registration_text, text_error
from matrix.report.numbers import by_seed, correlation, difference, interval
from matrix.report.numbers import magnitude, p_value
from matrix.results.selection import CONFIRM, SCREEN
from records.text_table import WIDTH


def reasons(evidence: Evidence, verdict: Verdict) -> str:
    """Why nothing was tested, or what an A/A arm is."""
    if verdict.outcome == AA:
        return "another initialisation, no claim"
    return "; ".join(verdict.reasons)


def outliers(evidence: Evidence, verdict: Verdict) -> str:
    """Which seeds stand apart."""
    if not verdict.outliers:
        return ""
    return (
        f"outlier: seed {units.numbers_in(verdict.outliers)} does not fit the others; "
        "it is kept, look at its run"
    )


def of_the_step(evidence: Evidence, verdict: Verdict) -> str:
    """What a reader must know of the step itself."""
    return "; ".join(evidence.remarks.get(verdict.step, ()))


CAUSES: tuple[Callable[[Evidence, Verdict], str], ...] = (
    reasons,
    look_text.stopped_early,
    planning_text.could_have_seen,
    planning_text.limits_of_a_claim,
    of_the_step,
)
"""What limits a verdict or explains it: each "" where it has nothing to say."""
REMARKS = (*CAUSES, outliers)


def cause(evidence: Evidence, verdict: Verdict) -> str:
    """Everything that CAUSES say of a verdict."""
    texts = [part(evidence, verdict) for part in CAUSES]
    return "; ".join(filter(None, texts))


def remarks(evidence: Evidence, verdict: Verdict) -> str:
    """Everything that REMARKS say of a verdict."""
    texts = [part(evidence, verdict) for part in REMARKS]
    return "; ".join(filter(None, texts))


def explain(report: Report, steps: Sequence[str]) -> list[str]:
    """The verdicts on these steps as paragraphs, with their run directories."""
    evidence = report.evidence
    paragraphs = []
    for step in steps:
        verdict = evidence.of(step)
        lines = [f"{step} against {evidence.control}: {word(report, verdict)}"]
        why = remarks(evidence, verdict)
        lines += [why] if why else []
        lines += _numbers(evidence, verdict)
        lines += filter(None, [text_error.line(evidence, verdict)])
        if verdict.differences:
            lines.append(f"by seed {by_seed(evidence, verdict)}")
        for row in report.rows:
            if row.step in (step, evidence.control):
                dirs = " ".join(run.run_dir for run in row.runs.values())
                lines.append(f"runs {dirs or units.DASH}")
        wrapped = [lines[0], *(f"  {line}" for line in lines[1:])]
        paragraphs.append("\n".join(map(in_width, wrapped)))
    about = (evidence.about, what_is_possible(evidence))
    paragraphs.append("\n".join(map(in_width, about)))
    return paragraphs


def in_width(line: str) -> str:
    """The line in the columns of a terminal, continued below its beginning."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    look = dict(subsequent_indent=indent, break_on_hyphens=False)
    return textwrap.fill(line, WIDTH, break_long_words=False, **look)


def _numbers(evidence: Evidence, verdict: Verdict) -> list[str]:
    """Difference, interval, and a line of DETAILS, where something was tested."""
    found = verdict.measured
    if found is None:
        return []
    behind = details(evidence, verdict).items()
    return [
        f"difference {difference(evidence, found.difference)}, "
        f"{level(verdict)} interval {interval(evidence, found.interval)}, "
        f"{units.plural(len(verdict.differences), 'seed')}",
        ", ".join(f"{title} {text}" for title, text in behind if text),
    ]


def level(verdict: Verdict) -> str:
    """The confidence of the interval of a verdict that was tested: 99.17 %."""
    return f"{100 * (1 - verdict.measured.level):.4g} %"


def holm_p(evidence: Evidence, verdict: Verdict) -> str:
    """The Holm-adjusted p; "" of an A/A arm and where nothing was tested."""
    if verdict.measured is None or verdict.step in evidence.aa:
        return ""
    return p_value(verdict.measured.adjusted)


def _narrow(evidence: Evidence, verdict: Verdict) -> str:
    return interval(evidence, verdict.measured.narrow)


def _p(evidence: Evidence, verdict: Verdict) -> str:
    return p_value(verdict.measured.p)


def _flip(evidence: Evidence, verdict: Verdict) -> str:
    return p_value(verdict.measured.flip)


def _equivalence(evidence: Evidence, verdict: Verdict) -> str:
    p = verdict.measured.equivalence
    return "" if p is None else p_value(p)


def _sd(evidence: Evidence, verdict: Verdict) -> str:
    return magnitude(evidence, verdict.measured.sd)


def _correlation(evidence: Evidence, verdict: Verdict) -> str:
    return correlation(verdict)


def _bootstrap(evidence: Evidence, verdict: Verdict) -> str:
    ends = verdict.measured.bca
    return "" if ends is None else interval(evidence, ends)


DETAILS: tuple[tuple[str, Callable[[Evidence, Verdict], str]], ...] = (
    ("Look", look_text.place),
    ("Repeated p", look_text.repeated_p),
    ("90 % interval", _narrow),
    ("p (paired t)", _p),
    ("Holm p", holm_p),
    ("Sign-flip p", _flip),
    ("NEUTRAL p", _equivalence),
    ("SD", _sd),
    ("SE of seeds", text_error.of_seeds),
    ("SE of the text", text_error.of_text),
    ("SE of both", text_error.of_both),
    ("r", _correlation),
    ("BCa 95 % (description)", _bootstrap),
)
"""(title, text) of the numbers behind a verdict that was tested; "" where it has none."""


def details(evidence: Evidence, verdict: Verdict) -> dict[str, str]:
    """Every one of DETAILS by its title, "" where nothing was tested."""
    if verdict.measured is None:
        return {title: "" for title, _ in DETAILS}
    return {title: text(evidence, verdict) for title, text in DETAILS}


def aa_warning(evidence: Evidence) -> list[str]:
    """A/A arms whose 1 − α interval excludes 0: more than the salt differs, or chance."""
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
    told = [v.label for v in evidence.verdicts if v.step not in evidence.aa]
    counts = [f"{told.count(each)} {each}" for each in units.distinct(told)]
    text = f"Verdicts: {', '.join(counts) or 'none, every arm is an A/A'}. "
    return [text + what_is_possible(evidence)]


def what_is_possible(evidence: Evidence) -> str:
    """What the seeds allow; of a sequential study where it stands."""
    if evidence.progress is not None:
        return look_text.standing(evidence)
    return planning_text.what_is_possible(evidence)


def terms(evidence: Evidence) -> str:
    """Metric, control, smallest effect, level, and which seeds chose the arms."""
    found = evidence.terms
    smallest = "none named"
    if found.smallest is not None:
        smallest = f"{magnitude(evidence, found.smallest)} {found.metric.unit}"
    better = "lower" if found.metric.lower_is_better else "higher"
    text = (
        f"Metric: {evidence.about}. Control: {evidence.control}. Better is {better}. "
    )
    text += f"Smallest effect of interest: {smallest}. "
    text += f"Level: {found.alpha:g}, Holm over {len(evidence.family)}."
    if found.screened and found.stage == CONFIRM:
        used = units.numbers_in(found.screened)
        text += f" Confirmation on fresh seeds; {used} chose the arms and are not used."
    return text


def word(report: Report, verdict: Verdict) -> str:
    """The verdict and, beside it, whether it was announced and what deviates."""
    if verdict.step in report.evidence.aa:
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
        here = text_error.phrase(evidence, verdict)
        lines.append(", ".join([*parts, *filter(None, [here, why])]))
    against = registration_text.deviations(report) if lines else ()
    return [*lines, *(f"deviation: {line}" for line in against)]
