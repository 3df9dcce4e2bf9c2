"""Runs of a token budget at the same training time: a description.

A slower arm has seen fewer tokens by then, at a learning rate that has not
decayed as far; a study with CONFIG_BUDGET_TIME asks that question properly.
"""

from typing import Sequence

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Section, Table, Text
from matrix.results.rows import Row, mean
from matrix.results.run import Run

TEXT = (
    "Descriptive, no verdict: the loss of both runs of a pair at the training time of "
    "the one that finished first, on the line between its evaluations. The slower one's "
    "learning rate has not decayed as far; a time budget (CONFIG_BUDGET_TIME) compares "
    "at equal time."
)


def section(report: Report) -> Section | None:
    """The table with its words, where there is one."""
    found = table(report.rows)
    if found is None:
        return None
    return Section("Equal training time", (Text(TEXT), found))


def loss_at(run: Run, seconds: float) -> float | None:
    """Loss after `seconds` of training, nats/token, linear between evaluations.

    None before the first evaluation, after the last and where none records its time.
    """
    points = run.curve("time")
    for (start, first), (end, last) in zip(points, points[1:]):
        if start <= seconds <= end:
            share = (seconds - start) / (end - start) if end > start else 1.0
            return first + share * (last - first)
    return None


def pair(arm: Run, control: Run) -> tuple[float, float] | None:
    """(seconds, arm − control) at the time when the first of the two finished."""
    ends = [run.evals[-1].get("time") for run in (arm, control)]
    if None in ends:
        return None
    losses = [loss_at(run, min(ends)) for run in (arm, control)]
    return None if None in losses else (min(ends), losses[0] - losses[1])


def table(rows: Sequence[Row]) -> Table | None:
    """A row per arm; None under a time budget and where no time is recorded."""
    control, budgets = rows[0], set()
    lines = []
    for row in rows[1:]:
        pairs = [pair(row.runs[k], control.runs[k]) for k in row.differences]
        budgets |= {run.value("budget") for run in row.runs.values()}
        found = [each for each in pairs if each is not None]
        lines.append(
            (
                row.step,
                units.duration(mean(seconds for seconds, _ in found)),
                units.signed(mean(d for _, d in found)),
                units.signed(row.difference),
                str(len(found)),
                row.ref,
            )
        )
    if budgets != {"tokens"} or not any(int(line[4]) for line in lines):
        return None
    columns = (
        Column("Step", "code"),
        Column("Training time"),
        Column("Difference then"),
        Column("Difference at the end"),
        Column("Pairs"),
        Column("Runs", "ref"),
    )
    return Table(columns, tuple(lines))
