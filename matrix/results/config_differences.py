"""Differences of configuration that no step accounts for.

Every run records the identity symbols in which its step differs from the base
(`changes` in run.json). Two runs of one step, and a step and its control under
the same seed, may differ in nothing else.
"""

from typing import Any, Collection, Iterator, Mapping, Sequence

from kconf.bind import format_value
from matrix import units
from matrix.results.rows import Row
from matrix.results.run import Run
from records import history

SEED, SALT = "SEED", "INIT_SALT"


def unexplained(rows: Sequence[Row]) -> list[str]:
    """One line per step and symbol, and one for runs that record no changes."""
    lines = []
    for row in rows:
        for symbol in _within(row):
            values = {seed: run.config.get(symbol) for seed, run in row.runs.items()}
            told = "; ".join(
                f"{format_value(value)} in {_seeds(s for s in values if values[s] == value)}"
                for value in units.distinct(values.values())
            )
            lines.append(f"{row.step}: its runs differ in CONFIG_{symbol}: {told}")
    control = rows[0]
    for row in rows[1:]:
        lines += _against(control, row)
    silent = [run for row in rows for run in row.runs.values() if _changes(run) is None]
    if silent:
        count = units.plural(len(silent), "run")
        lines.append(
            f"{count} of older code do not record what their step changes: whether "
            "a step and its control differ in anything else was not checked"
        )
    return lines


def _within(row: Row) -> list[str]:
    """The symbols, except the seed, that are not the same in a step's runs."""
    runs = list(row.runs.values())
    pairs = [differing(runs[0], other) for other in runs[1:]]
    return sorted({symbol for pair in pairs for symbol in pair})


def _against(control: Row, row: Row) -> list[str]:
    """The symbols that differ from the control's and are not the step's own."""
    found: dict[tuple[str, Any, Any], list[int]] = {}
    for seed in row.differences:
        run, base = row.runs[seed], control.runs[seed]
        own, theirs = _changes(run), _changes(base)
        if own is None or theirs is None:
            continue
        for symbol in differing(base, run):
            if symbol not in {*own, *theirs}:
                values = (base.config.get(symbol), run.config.get(symbol))
                found.setdefault((symbol, *values), []).append(seed)
    return [
        f"{row.step} differs from its control in CONFIG_{symbol}, which is not a "
        f"line of the step: {format_value(old)} in {control.step}, "
        f"{format_value(new)} in {row.step} ({_seeds(seeds)})"
        for (symbol, old, new), seeds in found.items()
    ]


def only_salted(control: Row, row: Row) -> bool:
    """Whether a step is its control again with other initial values (A/A).

    By what the paired runs were configured with; by what the step says it changes
    where there is no pair.
    """
    pairs = [(control.runs[seed], row.runs[seed]) for seed in row.differences]
    if pairs:
        return all(set(differing(*pair)) == {SALT} for pair in pairs)
    told = [list(_changes(run) or ()) for run in row.runs.values()]
    return bool(told) and all(each == [SALT] for each in told)


def _changes(run: Run) -> Collection[str] | None:
    return run.value("changes")


def differing(one: Run, other: Run) -> Iterator[str]:
    """Identity symbols with another value, the seed left out."""
    a: Mapping[str, Any] = one.config
    b: Mapping[str, Any] = other.config
    skipped = {SEED, *one.operational, *other.operational}
    for symbol in history.differing(a, b):
        if symbol not in skipped and a.get(symbol) != b.get(symbol):
            yield symbol


def _seeds(seeds: Any) -> str:
    seeds = list(seeds)
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {units.numbers_in(seeds)}"
