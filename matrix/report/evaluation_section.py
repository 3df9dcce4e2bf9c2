"""Every evaluation of a study, step by step."""

from typing import Mapping

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Section, Table, Text
from matrix.results.evaluations import Measured, measured, names
from matrix.results.rows import deviation, mean

TEXT = (
    "Texts and tasks that finished runs were evaluated on (make eval). Mean and SD "
    "(n−1) over the seeds; difference: step minus control over the seeds that both "
    "have. Runs that were evaluated under different settings are not put together."
)


def section(report: Report) -> Section | None:
    """Every evaluation by step; None where no run was evaluated."""
    rows, evaluated = report.rows, names(report.counted)
    if not evaluated:
        return None
    columns = (
        Column("Evaluation", "code"),
        Column("Metric", "text"),
        Column("Step", "code"),
        Column("Seeds"),
        Column("Mean"),
        Column("SD"),
        Column("Difference"),
        Column("SD of difference"),
        Column("Pairs"),
        Column("Runs", "ref"),
    )
    lines = []
    for name, metric in evaluated:
        control = measured(rows[0], name, metric)
        for row in rows:
            here = measured(row, name, metric)
            if here:
                first = row is rows[0]
                cells = _cells(here, {} if first else control, first)
                lines.append((name, metric, row.step, *cells, row.ref))
    return Section("Evaluations", (Text(TEXT), Table(columns, tuple(lines))))


def _cells(
    here: Mapping[int, Measured], control: Mapping[int, Measured], first: bool
) -> tuple[str, ...]:
    """Seeds, mean, SD, difference, its SD and its pairs."""
    one = len({each.protocol for each in here.values()}) == 1
    values = [each.value for each in here.values()] if one else []
    paired = [
        mine.value - control[seed].value
        for seed, mine in here.items()
        if seed in control and control[seed].protocol == mine.protocol
    ]
    return (
        str(len(here)),
        _number(mean(values)),
        _number(deviation(values)),
        "control" if first else _number(mean(paired), "+"),
        _number(deviation(paired)),
        units.DASH if first else str(len(paired)),
    )


def _number(value: float | None, sign: str = "") -> str:
    """Five significant digits: an accuracy and a perplexity share a column."""
    return units.DASH if value is None else f"{value:{sign}.5g}"
