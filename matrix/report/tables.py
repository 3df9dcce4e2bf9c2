"""The tables of a report, made of rows and runs."""

from typing import Sequence

from matrix import units
from matrix.report.document import Column, Table
from matrix.results.cache_size import cache_bytes, cached_values
from matrix.results.rows import Row
from matrix.results.run import Run
from matrix.results.step_changes import step_changes
from matrix.results.study import Study, open_cells

LENGTHS = (1024, 16384, 65536)
"""Tokens at which caches are compared: where one that grows meets one that does not."""


def loss_table(made: Sequence[Row], seeds: int) -> Table:
    """Final losses and paired differences."""
    columns = (
        Column("Step", "code"),
        Column("Seeds"),
        Column("Validation loss, nats/token"),
        Column("SD"),
        Column("Bits/byte"),
        Column("Difference"),
        Column("SD of difference"),
        Column("Pairs"),
        Column("Runs", "ref"),
    )
    lines = []
    for number, row in enumerate(made):
        n = len(row.losses)
        line = (
            row.step,
            f"{n} of {seeds}" if n < seeds else str(n),
            units.loss(row.mean),
            units.spread(row.sd),
            units.loss(row.bits),
            "control" if number == 0 else units.signed(row.difference),
            units.spread(row.difference_sd),
            str(len(row.differences)) if number else units.DASH,
            row.ref,
        )
        lines.append(line)
    return Table(columns, tuple(lines))


def steps_table(made: Sequence[Row]) -> Table:
    """What each step is, in its own words and in symbols; the control changes nothing."""
    columns = (
        Column("Step", "code"),
        Column("Description", "text"),
        Column("Changes", "text"),
        Column("Implied", "text"),
    )
    lines = []
    for row in made:
        found = step_changes(made[0], row)
        changes = ", ".join(map(str, found.lines))
        if changes and not found.recorded:
            changes += " (which of these are lines of the step is not recorded)"
        parts = filter(None, [changes, found.own_training])
        implied = ", ".join(map(str, found.implied))
        lines.append((row.step, row.help, "; ".join(parts), implied))
    return Table(columns, tuple(lines))


def size_table(made: Sequence[Row]) -> Table:
    """What each step's model is: parameters, arithmetic and cache per token."""
    columns = (
        Column("Step", "code"),
        Column("Parameters"),
        Column("Without embeddings"),
        Column("FLOPs/token"),
        Column("Cache/token, one layer"),
        Column("Cache/token, all layers"),
        Column("Runs", "ref"),
    )
    lines = []
    for row in made:
        layer = units.distinct(_cache(run, 1) for run in row.runs.values())
        net = units.distinct(_cache(run) for run in row.runs.values())
        line = (
            row.step,
            row.same("parameters", units.scaled),
            row.same("parameters_no_embedding", units.scaled),
            row.same("flops_per_token", lambda n: units.scaled(n, "KMGT")),
            " / ".join(layer) or units.DASH,
            " / ".join(net) or units.DASH,
            row.ref,
        )
        lines.append(line)
    return Table(columns, tuple(lines))


def cache_table(made: Sequence[Row]) -> Table:
    """Bytes of the cache of one sequence, by its length, in the compute type."""
    columns = (
        Column("Step", "code"),
        *(Column(f"{length // 1024}k tokens") for length in LENGTHS),
        Column("Runs", "ref"),
    )
    lines = []
    for row in made:
        sizes = []
        for length in LENGTHS:
            found = (cache_bytes(run, length) for run in row.runs.values())
            shown = units.distinct(units.memory(size) for size in found)
            sizes.append(" / ".join(shown) or units.DASH)
        lines.append((row.step, *sizes, row.ref))
    return Table(columns, tuple(lines))


def speed_table(made: Sequence[Row]) -> Table:
    """What each step costs on this machine: speed, time, memory, energy.

    Without the columns of the speed and of the energy when no run has any.
    """
    runs = [run for row in made for run in row.runs.values()]
    measured = any(run.value("energy_joules") is not None for run in runs)
    timed = any(run.value("train_time") is not None for run in runs)
    columns = (
        Column("Step", "code"),
        *(
            Column(title)
            for title in ("Tokens/s", "Training time", "Wall time")
            if timed
        ),
        Column("Peak memory"),
        *(Column(title) for title in ("Energy", "J/token") if measured),
        Column("Runs", "ref"),
    )
    lines = []
    for row in made:
        line = (
            row.step,
            *(_times(row) if timed else ()),
            units.memory(row.peak_memory),
            *(_energy(row) if measured else ()),
            row.ref,
        )
        lines.append(line)
    return Table(columns, tuple(lines))


def _times(row: Row) -> tuple[str, str, str]:
    """Speed, training time and wall time, means over the runs."""
    return (
        units.count(row.average("tokens_per_s")),
        units.duration(row.average("train_time")),
        units.duration(row.average("total_time_all_attempts")),
    )


def _energy(row: Row) -> tuple[str, str]:
    """Mean energy of a run and of a token; only where all runs measured it."""
    joules, each = row.average("energy_joules"), row.average("energy_per_token")
    if joules is None or each is None:
        return "not measured", units.DASH
    return units.energy(joules), f"{each:.3g}"


def _cache(run: Run, layers: int | None = None) -> str:
    """Cached values per token, plus the part that is constant in T."""
    values = cached_values(run, layers)
    if values is None:
        return units.DASH
    grows, constant = map(units.count, values)
    return f"{grows} + {constant}" if values[1] else grows


def open_table(study: Study) -> Table:
    """The cells that no number stands on, or whose newest run is unfinished."""
    columns = (
        Column("Step", "code"),
        Column("Seed"),
        Column("State", "text"),
        Column("Cause", "text"),
        Column("Run directory", "code"),
    )
    return Table(columns, tuple(open_cells(study)))


def runs_table(made: Sequence[Row]) -> Table:
    """Where every number comes from: the counted runs, step by step."""
    columns = (
        Column("Runs", "anchor"),
        Column("Step", "code"),
        Column("Seed"),
        Column("Validation loss"),
        Column("Difference"),
        Column("Run directory", "code"),
    )
    lines = []
    for row in made:
        for number, (seed, run) in enumerate(row.runs.items()):
            lines.append(
                (
                    row.ref if number == 0 else "",
                    row.step,
                    str(seed),
                    units.loss(row.losses[seed]),
                    units.signed(row.differences.get(seed)),
                    run.run_dir,
                )
            )
        if not row.runs:
            lines.append((row.ref, row.step, "", units.DASH, units.DASH, ""))
    return Table(columns, tuple(lines))
