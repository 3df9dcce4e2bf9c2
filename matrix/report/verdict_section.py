"""The section of a report that decides: verdicts, every seed, the ranking."""

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import INVALID, RULE
from matrix.evidence.weigh import Evidence, ranking
from matrix.report import registration_text, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.report.plots import forest
from matrix.results.selection import CONFIRM, SCREEN

SCREENING = (
    "A screening: this ranks the arms by their mean difference and claims nothing "
    "about any of them. `make promote` records the best few; STAGE=confirm judges "
    "those on fresh seeds."
)


def section(report: Report) -> Section | None:
    """Verdicts with their numbers, or the ranking of a screening; None of one step."""
    evidence = report.evidence
    if not evidence.verdicts:
        return None
    if evidence.terms.stage == SCREEN:
        return Section("Ranking", (Text(SCREENING), ranking_table(evidence)))
    picture = forest.picture(evidence)
    blocks: list[Block] = [
        Text(
            f"Metric: {evidence.about}. Control: {evidence.control}. {_terms(evidence)}"
        ),
        Text(verdict_text.what_is_possible(evidence)),
        verdict_table(evidence),
        *([picture] if picture else []),
        Text("Differences seed by seed; * marks an outlier, which is kept:"),
        seeds_table(evidence),
        Text(RULE),
    ]
    notices = verdict_text.floor_warning(evidence)
    if notices:
        blocks.insert(3, Notice("Noise floor", tuple(notices)))
    standing = registration_text.lines(report)
    if registration_text.deviations(report):
        blocks.insert(0, Notice("Deviations from what was announced", tuple(standing)))
    else:
        blocks.insert(0, Text(standing[0]))
    return Section("Verdicts", tuple(blocks))


def _terms(evidence: Evidence) -> str:
    terms = evidence.terms
    smallest = "none named"
    if terms.smallest is not None:
        smallest = (
            f"{verdict_text.magnitude(evidence, terms.smallest)} {terms.metric.unit}"
        )
    better = "lower" if terms.metric.lower_is_better else "higher"
    text = f"Better is {better}. Smallest effect of interest: {smallest}. "
    text += f"Level: {terms.alpha:g}, Holm over {len(evidence.family)}."
    if terms.stage == CONFIRM:
        used = units.numbers_in(terms.screened)
        text += f" Confirmation on fresh seeds; {used} chose the arms and are not used."
    return text


def verdict_table(evidence: Evidence) -> Table:
    """A row per arm: verdict, difference with interval, p values, r, and why."""
    columns = (
        Column("Step", "code"),
        Column("Verdict", "text"),
        Column("Seeds"),
        Column("Difference"),
        Column("Interval"),
        Column("Level"),
        Column("90 % interval"),
        Column("p"),
        Column("Holm p"),
        Column("Sign-flip p"),
        Column("r"),
        Column("Remarks", "text"),
        Column("Runs", "ref"),
    )
    lines = []
    for verdict in evidence.verdicts:
        found = verdict.measured
        numbers = [units.DASH] * 7
        if found is not None:
            numbers = [
                verdict_text.difference(evidence, found.difference),
                verdict_text.interval(evidence, found.interval),
                f"{100 * (1 - found.level):.4g} %",
                verdict_text.interval(evidence, found.narrow),
                verdict_text.p_value(found.p),
                (
                    units.DASH
                    if verdict.step in evidence.aa
                    else verdict_text.p_value(found.adjusted)
                ),
                verdict_text.p_value(found.flip),
            ]
        remarks = [verdict_text.cause(evidence, verdict)]
        remarks += [verdict_text.outlier_note(verdict)] if verdict.outliers else []
        if found is not None and found.bca is not None:
            remarks.append(
                f"BCa 95 %, description: {verdict_text.interval(evidence, found.bca)}"
            )
        lines.append(
            (
                verdict.step,
                verdict.label,
                str(len(verdict.differences)),
                *numbers,
                verdict_text.correlation(verdict),
                "; ".join(filter(None, remarks)),
                evidence.refs.get(verdict.step, ""),
            )
        )
    return Table(columns, tuple(lines))


def seeds_table(evidence: Evidence) -> Table:
    """A row per arm, a column per seed."""
    columns = (
        Column("Step", "code"),
        *(Column(f"Seed {seed}") for seed in evidence.seeds),
        Column("Runs", "ref"),
    )
    lines = []
    for verdict in evidence.verdicts:
        marks = {seed: "*" for seed in verdict.outliers}
        cells = [
            verdict_text.difference(evidence, verdict.differences.get(seed))
            + marks.get(seed, "")
            for seed in evidence.seeds
        ]
        ref = evidence.refs.get(verdict.step, "")
        lines.append((verdict.step, *cells, ref))
    return Table(columns, tuple(lines))


def ranking_table(evidence: Evidence) -> Table:
    """The arms of a screening in their order, without p values."""
    columns = (
        Column("Rank"),
        Column("Step", "code"),
        Column("Mean difference"),
        Column("By seed", "text"),
        Column("Lost", "text"),
        Column("Runs", "ref"),
    )
    lines = []
    for place, verdict in enumerate(ranking(evidence), start=1):
        lost = verdict.outcome == INVALID
        d = list(verdict.differences.values())
        mean = sum(d) / len(d) if d and not lost else None
        lines.append(
            (
                units.DASH if lost else str(place),
                verdict.step,
                verdict_text.difference(evidence, mean),
                verdict_text.by_seed(evidence, verdict),
                "; ".join(verdict.reasons) if lost else "",
                evidence.refs.get(verdict.step, ""),
            )
        )
    return Table(columns, tuple(lines))
