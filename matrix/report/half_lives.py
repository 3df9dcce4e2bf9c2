"""How long recurrent layers remember: the half-lives of what their states hold.

From the rows of kind `attention` (docs/records.md): `half_life` by layer and bin, of a
run's last evaluation.
"""

from typing import Any, Mapping, Sequence

from matrix.evidence.gather import Report
from matrix.report.document import Column, Section, Table, Text
from matrix.results.rows import Row, mean

BINS = 16
"""Of a row: below 1 token, 1–2, 2–4, … and, last, 2¹⁴ or more."""
COLUMNS = {
    "< 1": (0, 1),
    "1–4": (1, 3),
    "4–16": (3, 5),
    "16–64": (5, 7),
    "64–256": (7, 9),
    "256–1024": (9, 11),
    "1024–4096": (11, 13),
    "≥ 4096": (13, BINS),
}
"""By title, the bins [from, to) that a column adds up."""


def shares(row: Row) -> list[float]:
    """By bin, the mean over layers and runs; nothing where no layer has a state."""
    ends = [run.attention[-1] for run in row.runs.values() if run.attention]
    layers = [layer for end in ends for layer in _layers(end)]
    return [mean(each) for each in zip(*layers)]


def _layers(end: Mapping[str, Any]) -> list[list[float]]:
    given = end.get("half_life")
    layers = (
        [x for x in given if isinstance(x, list)] if isinstance(given, list) else []
    )
    return [x for x in layers if len(x) == BINS and None not in x]


def section(report: Report) -> Section | None:
    """The table; None where no step has a recurrent layer."""
    found = [(row, each) for row in report.rows if (each := shares(row))]
    if not found:
        return None
    text = (
        "At the last evaluation, on a few fixed windows of the validation text; "
        "docs/mechanisms.md has the formulas. They describe what the layers do and claim "
        "nothing."
    )
    return Section("What recurrent layers keep", (Text(text), table(found)))


def table(found: Sequence[tuple[Row, Sequence[float]]]) -> Table:
    """A row per step."""
    columns = Column("Step", "code"), *map(Column, COLUMNS), Column("Runs", "ref")
    lines = []
    for row, each in found:
        sums = [sum(each[first:last]) for first, last in COLUMNS.values()]
        lines.append((row.step, *(f"{100 * x:.1f} %" for x in sums), row.ref))
    caption = (
        "Share of the decays by their half-life ln 2 / −g in tokens, over layers, heads "
        "and channels; what the delta rule erases is not counted, and what never fades "
        "is in the last column."
    )
    return Table(columns, tuple(lines), caption)
