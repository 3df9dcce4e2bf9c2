"""The section of a report that decides: verdicts, every seed, the ranking."""

from typing import Sequence

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import INVALID, RULE
from matrix.evidence.weigh import Evidence, ranking
from matrix.report import text_error, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.report.numbers import by_seed, difference, interval, magnitude
from matrix.report.plots import forest
from matrix.results.selection import CONFIRM, SCREEN

MOST_ABREAST = 8
"""Most seeds beside each other: more do not fit a page of 1280 pixels."""
SCREENING = (
    "A screening: this ranks the arms by their mean difference and claims nothing "
    "about any of them. The best few are judged on fresh seeds: a sequential study goes "
    "on to them by itself, else `make promote` records them for STAGE=confirm."
)


def section(report: Report) -> Section | None:
    """Verdicts with their numbers, or the ranking of a screening; None of one step."""
    evidence = report.evidence
    if not evidence.verdicts:
        return None
    if evidence.terms.stage == SCREEN:
        return Section("Ranking", (Text(SCREENING), ranking_table(evidence)))
    picture = forest.picture(evidence)
    aa = verdict_text.aa_warning(evidence)
    blocks: list[Block] = [
        Text(
            f"Metric: {evidence.about}. Control: {evidence.control}. {_terms(evidence)}"
        ),
        Text(verdict_text.what_is_possible(evidence)),
        *([Notice("A/A", tuple(aa))] if aa else []),
        verdict_table(evidence),
        *map(Text, text_error.without(evidence)),
        *([picture] if picture else []),
        Text("The numbers behind the verdicts:"),
        details_table(evidence),
        Text("Differences seed by seed; * marks an outlier, which is kept:"),
        *seeds_tables(evidence),
        Text(RULE),
    ]
    return Section("Verdicts", tuple(blocks))


def _terms(evidence: Evidence) -> str:
    terms = evidence.terms
    smallest = "none named"
    if terms.smallest is not None:
        smallest = f"{magnitude(evidence, terms.smallest)} {terms.metric.unit}"
    better = "lower" if terms.metric.lower_is_better else "higher"
    text = f"Better is {better}. Smallest effect of interest: {smallest}. "
    text += f"Level: {terms.alpha:g}, Holm over {len(evidence.family)}."
    if terms.screened and terms.stage == CONFIRM:
        used = units.numbers_in(terms.screened)
        text += f" Confirmation on fresh seeds; {used} chose the arms and are not used."
    return text


def verdict_table(evidence: Evidence) -> Table:
    """A row per arm: verdict, difference with interval, seeds, Holm p, and why.

    Five columns, so that a page shows it whole; details_table has the others.
    """
    columns = (
        Column("Step", "code"),
        Column("Verdict", "text"),
        Column("Difference and interval"),
        Column("Seeds"),
        Column("Holm p"),
        Column("Remarks", "text"),
    )
    lines = []
    for verdict in evidence.verdicts:
        found, numbers = verdict.measured, units.DASH
        words = [verdict_text.remarks(evidence, verdict)]
        words.append(text_error.phrase(evidence, verdict))
        if found is not None:
            ends = interval(evidence, found.interval)
            numbers = f"{difference(evidence, found.difference)} {ends}"
        line = (
            verdict.step,
            verdict.label,
            numbers,
            str(len(verdict.differences)),
            verdict_text.holm_p(evidence, verdict) or units.DASH,
            "; ".join(filter(None, words)),
        )
        lines.append(line)
    return Table(columns, tuple(lines))


def details_table(evidence: Evidence) -> Table:
    """Level and DETAILS (matrix/report/verdict_text.py) of every arm that was tested;
    a column that all leave empty is not there.
    """
    rows = [(v, verdict_text.details(evidence, v)) for v in evidence.verdicts]
    shared = {"Holm p"}  # stands in verdict_table
    titles = [
        title
        for title, _ in verdict_text.DETAILS
        if title not in shared and any(row[title] for _, row in rows)
    ]
    columns = [Column("Step", "code"), Column("Level"), *map(Column, titles)]
    lines = [
        (
            verdict.step,
            verdict_text.level(verdict) if verdict.measured else units.DASH,
            *(row[title] or units.DASH for title in titles),
            evidence.refs.get(verdict.step, ""),
        )
        for verdict, row in rows
    ]
    return Table((*columns, Column("Runs", "ref")), tuple(lines))


def seeds_tables(evidence: Evidence) -> list[Table]:
    """A row per arm, a column per seed; a table for every MOST_ABREAST seeds."""
    count = -(-len(evidence.seeds) // MOST_ABREAST) or 1
    width = -(-len(evidence.seeds) // count) or 1
    parts = [evidence.seeds[at : at + width] for at in range(0, count * width, width)]
    return [_seeds_table(evidence, part) for part in parts]


def _seeds_table(evidence: Evidence, seeds: Sequence[int]) -> Table:
    columns = (
        Column("Step", "code"),
        *(Column(f"Seed {seed}") for seed in seeds),
        Column("Runs", "ref"),
    )
    lines = []
    for verdict in evidence.verdicts:
        marks = {seed: "*" for seed in verdict.outliers}
        cells = [
            difference(evidence, verdict.differences.get(seed)) + marks.get(seed, "")
            for seed in seeds
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
                difference(evidence, mean),
                by_seed(evidence, verdict),
                "; ".join(verdict.reasons) if lost else "",
                evidence.refs.get(verdict.step, ""),
            )
        )
    return Table(columns, tuple(lines))
