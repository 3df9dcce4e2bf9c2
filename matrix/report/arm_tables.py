"""The tables of a test matrix: its arms, seed by seed, and what is excluded."""

from typing import Sequence

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Section, Table, Text
from matrix.results.rows import Row


def arms_section(report: Report) -> Section | None:
    """Every arm; None for a study without a test matrix."""
    if not any(row.point for row in report.rows):
        return None
    text = (
        "Every arm is compared with the control and, when it prunes, with its "
        "dense arm: the same optimizer, learning rate and other axes without "
        "pruning. Differences are paired by seed; negative where the arm's loss is "
        "the lower one. Sparsity: zeros among the blocks' matrices at the end, and "
        "their share of all parameters. Step time: mean over a run's timed steps, "
        "mask updates included. Peak memory: of one GPU of a run, "
        "the maximum over the seeds."
    )
    return Section("Arms", (Text(text), arms_table(report.rows)))


def seeds_section(report: Report) -> Section | None:
    """Every run of every arm."""
    if not any(row.point for row in report.rows):
        return None
    return Section("Arms, seed by seed", (seeds_table(report.rows),))


def excluded_section(report: Report) -> Section | None:
    """Combinations that are no arm, and why."""
    if not report.selection.excluded:
        return None
    text = "Combinations of the axes that the configuration refuses:"
    columns = (Column("Combination", "code"), Column("Reason", "text"))
    table = Table(columns, report.selection.excluded)
    return Section("Excluded", (Text(text), table))


def arms_table(made: Sequence[Row]) -> Table:
    """Every arm: its loss and both differences, sparsity, step time, memory."""
    columns = (
        Column("Arm", "code"),
        Column("Validation loss, nats/token"),
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
        Column("Validation loss"),
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
