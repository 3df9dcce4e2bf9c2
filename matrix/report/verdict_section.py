"""The section of a report that decides: verdicts, every seed, the ranking."""

from typing import Sequence

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import INVALID
from matrix.evidence.weigh import Evidence, ranking
from matrix.report import answers, text_error, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.report.numbers import by_seed, difference
from matrix.report.plots import forest
from matrix.results.selection import SCREEN

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
        Text(verdict_text.what_is_possible(evidence)),
        *([Notice("A/A", tuple(aa))] if aa else []),
        *([picture] if picture else []),
        answers.sentences(report),
        *map(Text, text_error.without(evidence)),
        Text("The numbers behind the verdicts:"),
        details_table(evidence),
        Text("Differences seed by seed; * marks an outlier, which is kept:"),
        *seeds_tables(evidence),
    ]
    return Section("Verdicts", tuple(blocks))


def details_table(evidence: Evidence) -> Table:
    """DETAILS (matrix/report/verdict_text.py) of every arm that was tested; a column that
    all leave empty is not there.
    """
    rows = [(v, verdict_text.details(evidence, v)) for v in evidence.verdicts]
    titles = [
        title for title, _ in verdict_text.DETAILS if any(row[title] for _, row in rows)
    ]
    columns = [Column("Step", "code"), *map(Column, titles)]
    lines = [
        (
            verdict.step,
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
