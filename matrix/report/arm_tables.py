"""The tables of a test matrix: its arms, seed by seed, its rates, what is excluded."""

from typing import Sequence

from matrix import units
from matrix.report.document import Column, Table
from matrix.report.plots.learning_rates import Series
from matrix.results.rows import Row


def arms_table(made: Sequence[Row]) -> Table:
    """Every arm: its loss and both differences, sparsity, step time, memory."""
    columns = (
        Column("Arm", "code"),
        Column("Loss, nats/token"),
        Column("Minus control"),
        Column("Minus dense arm"),
        Column("Pairs"),
        Column("Dense arm", "code"),
        Column("Sparsity"),
        Column("Of all parameters"),
        Column("Step time"),
        Column("Peak memory"),
        Column("Runs", "ref"),
    )
    lines = []
    for number, row in enumerate(made):
        line = (
            row.step,
            units.loss(row.mean),
            "control" if number == 0 else units.signed(row.difference),
            units.signed(row.dense_difference),
            str(len(row.dense_differences)) if row.dense else units.DASH,
            row.dense or "",
            units.percent(row.average("sparsity")),
            units.percent(row.average("sparsity_of_all")),
            units.step_time(row.average("average_step_time")),
            units.memory(row.peak_memory),
            row.ref,
        )
        lines.append(line)
    return Table(columns, tuple(lines))


def seeds_table(made: Sequence[Row]) -> Table:
    """Every cell: what arms_table averages."""
    columns = (
        Column("Arm", "code"),
        Column("Seed"),
        Column("Loss"),
        Column("Minus control"),
        Column("Minus dense arm"),
        Column("Sparsity"),
        Column("Of all parameters"),
        Column("Step time"),
        Column("Peak memory"),
        Column("Run directory", "code"),
    )
    lines = [
        (
            row.step,
            str(seed),
            units.loss(row.losses[seed]),
            units.signed(row.differences.get(seed)),
            units.signed(row.dense_differences.get(seed)),
            units.percent(run.value("sparsity")),
            units.percent(run.value("sparsity_of_all")),
            units.step_time(run.value("average_step_time")),
            units.memory(run.value("peak_memory_bytes")),
            run.run_dir,
        )
        for row in made
        for seed, run in row.runs.items()
    ]
    return Table(columns, tuple(lines))


def rates_table(lines: Sequence[Series]) -> Table:
    """The best rate of every line, and whether the true one may lie outside."""
    columns = (
        Column("Arm", "text"),
        Column("Rates"),
        Column("Lowest loss"),
        Column("At rate"),
        Column("Worst minus lowest"),
        Column("", "text"),
        Column("Runs", "ref"),
    )
    made = []
    for series in lines:
        means = [mean for _, _, mean, _ in series.points]
        lowest = means.index(min(means))
        loss, rate = means[lowest], series.points[lowest][1]
        ends = (series.points[0][1], series.points[-1][1])
        remark = "at the end of the range: the best rate may lie outside"
        made.append(
            (
                series.name,
                str(len(series.points)),
                units.loss(loss),
                rate,
                units.signed(max(means) - loss),
                remark if rate in ends else "",
                series.refs[lowest],
            )
        )
    return Table(columns, tuple(made))


def excluded_table(excluded: Sequence[tuple[str, str]]) -> Table:
    """Combinations that are no arm, and why."""
    columns = (Column("Combination", "code"), Column("Reason", "text"))
    return Table(columns, tuple(excluded))
