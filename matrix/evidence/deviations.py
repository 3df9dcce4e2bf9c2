"""What was changed after the first run: deviations, preregistered or not.

Read from the runs' own times and from the config.py of each, which holds the symbols
that the study was judged by when that run started. What a record lacks is not
compared. Only runs that are judged are looked at: a trial deviates from nothing.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from kconf.bind import SettingsError, ranges
from matrix import units
from matrix.evidence.weigh import Evidence
from matrix.plan.rerun import replaced
from matrix.results.metrics import VAL_LOSS
from matrix.results.rows import Row
from matrix.results.run import Run
from matrix.results.selection import CONFIRM, SCREEN, Terms
from matrix.settings import smallest_effect
from records.files import shown

DAY = 86_400.0
"""Seconds between a control and an arm, without a run of that seed, from which on the
two shared no state of the machine. A round of all arms of a seed, however long, has no
such pause."""
TERMS: dict[str, Callable[[Terms], Any]] = {
    "METRIC": lambda terms: terms.metric.name,
    "METRIC_LAST_EVALS": lambda terms: terms.last_evals,
    "SMALLEST_EFFECT": lambda terms: terms.smallest,
    "ALPHA": lambda terms: terms.alpha,
}
READ: dict[str, Callable[[str], Any]] = {
    "SMALLEST_EFFECT": lambda raw: smallest_effect(raw, VAL_LOSS.name),
    "ALPHA": float,
}
"""How a quoted symbol is read, where it is not taken as it stands. Of the smallest
effect the loss alone may have none written."""


def deviations(
    study_dir: Path,
    rows: Sequence[Row],
    evidence: Evidence,
    registered: Collection[int] = (),
) -> tuple[str, ...]:
    """One line per deviation; nothing of a screening, which claims nothing.

    `registered` are the seeds of a preregistration: whoever sealed them added none.
    """
    if evidence.terms.stage == SCREEN:
        return ()
    counted = [run for row in rows for run in row.runs.values()]
    timed = [run for run in counted if run.began > 0 and not run.reused]
    timed.sort(key=lambda run: run.began)
    lines = [*_seeds_added(timed, registered), *_terms_changed(timed, evidence)]
    if evidence.terms.looks is None and set(registered) != set(evidence.seeds):
        lines += _seeds_dropped(timed, evidence.seeds)
    lines += _replaced(study_dir, counted)
    for row in rows[1:]:
        lines += _apart(rows[0], row, counted)
    return tuple(lines)


def _seeds_added(timed: Sequence[Run], registered: Collection[int]) -> list[str]:
    """Seeds that a list under which others were done did not name, started after those."""
    planned = {run.run_dir: _planned(run) for run in timed}
    added, before = set(), set()
    for run in timed:
        if run.seed in registered:
            continue
        done = {
            other.seed
            for other in timed
            if other.time <= run.began
            and planned[other.run_dir]
            and run.seed not in planned[other.run_dir]
        }
        if done:
            added.add(run.seed)
            before |= done
    if not added:
        return []
    return [f"{_seeds(added)} added after {_seeds(before - added or before)} had run"]


def _seeds_dropped(timed: Sequence[Run], judged: Collection[int]) -> list[str]:
    """Seeds that were planned when a judged run started and are not judged: a list that
    is cut where it suits is as good as one that grows.
    """
    dropped = {seed for run in timed for seed in _planned(run)} - set(judged)
    if not dropped:
        return []
    verb = "was" if len(dropped) == 1 else "were"
    return [f"{_seeds(dropped)} {verb} planned when a run started and not judged now"]


def _planned(run: Run) -> frozenset[int]:
    """The seeds that were planned when a run started; none where it records none."""
    symbol = "CONFIRM_SEEDS" if run.value("stage") == CONFIRM else "SEEDS"
    raw = run.config.get(symbol)
    try:
        return frozenset(ranges(symbol, raw) if isinstance(raw, str) else ())
    except SettingsError:  # no plan is made of such a list
        return frozenset()


def _terms_changed(timed: Sequence[Run], evidence: Evidence) -> list[str]:
    """What is judged by now and was something else when the first run started."""
    lines = []
    controls = units.distinct(run.step for run in timed if run.value("control"))
    others = [step for step in controls if step != evidence.control]
    if others:
        lines.append(_changed("CONTROL_STEP", ", ".join(others), evidence.control))
    for symbol, current in TERMS.items():
        found = next((v for run in timed if (v := _recorded(run, symbol))), None)
        value = current(evidence.terms)
        if found is not None and found[0] != value:
            lines.append(_changed(symbol, found[0], value))
            if symbol == "METRIC":  # the others belong to it
                break
    return lines


def _recorded(run: Run, symbol: str) -> tuple[Any] | None:
    """(value,) of a symbol when the run started; None where it records none."""
    raw = run.config.get(symbol)
    if raw is None or symbol not in READ:
        return None if raw is None else (raw,)
    try:
        return (READ[symbol](raw),)
    except (SettingsError, ValueError):  # no plan is made of such a value
        return None


def _changed(symbol: str, before: Any, now: Any) -> str:
    return (
        f"CONFIG_{symbol}: {_word(before)} when the first run started, now {_word(now)}"
    )


def _word(value: Any) -> str:
    return "none" if value is None else str(value)


def _replaced(study_dir: Path, counted: Iterable[Run]) -> list[str]:
    """Runs that `make rerun` put aside: for a judged run of the same cell, or of seeds
    that are not judged at all.
    """
    judged = {(run.step, f"seed-{run.seed}", run.hash8) for run in counted}
    seeds = {(step, seed) for step, seed, _ in judged}
    steps = {step for step, _ in seeds}
    former, gone = [], []
    for path in replaced(study_dir):
        step, seed, hash8 = *path.parts[-3:-1], path.name.partition("-")[0]
        place = shown(path.relative_to(study_dir.parent))
        if (step, seed, hash8) in judged:
            former.append(place)
        elif step in steps and (step, seed) not in seeds:
            gone.append(place)
    lines = []
    if former:
        lines.append(f"replaced by another run of the cell: {', '.join(former)}")
    if gone:
        lines.append(f"put aside, and their seeds are not judged: {', '.join(gone)}")
    return lines


def _apart(control: Row, row: Row, counted: Sequence[Run]) -> list[str]:
    """Pairs of which one had ended more than DAY before the other began."""
    before: dict[int, float] = {}
    after: dict[int, float] = {}
    for seed in row.differences:
        base, run = control.runs[seed], row.runs[seed]
        if not (base.began and run.began):
            continue
        round_ = [each for each in counted if each.seed == seed and each.began]
        for found, one, other in ((before, base, run), (after, run, base)):
            pause = idle(one.time, other.began, round_)
            if pause > DAY:
                found[seed] = pause
    lines = []
    for found, first, second in (
        (before, control.step, row.step),
        (after, row.step, control.step),
    ):
        if found:
            days = max(found.values()) / DAY
            lines.append(
                f"{_seeds(found)} of {first} had ended {days:.1f} days before "
                f"{second} began"
            )
    return lines


def idle(start: float, end: float, runs: Iterable[Run]) -> float:
    """Seconds from start to end in which none of the runs ran; 0 where end is before."""
    seconds, at = 0.0, start
    for run in sorted(runs, key=lambda run: run.began):
        if run.began >= end:
            break
        seconds += max(0.0, run.began - at)
        at = max(at, run.time)
    return seconds + max(0.0, end - at)


def _seeds(seeds: Iterable[int]) -> str:
    numbers = sorted(set(seeds))
    noun = "seed" if len(numbers) == 1 else "seeds"
    return f"{noun} {units.numbers_in(numbers)}"
