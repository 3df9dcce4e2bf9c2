"""The runs of one study: which of them counts for each cell, and which cells have none.

`load` reads every run directory below a study, then decides which run counts
for each cell (step, seed): the newest finished one, among the hashes of the
selection when it has any. Everything else stays known, as a cell that
does not count or as a run that was left out.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

from matrix import units
from matrix.results.run import DONE, ReportError, Run, find, natural
from matrix.results.selection import Selection
from records.files import shown

MISSING = "missing"
HASH8 = 8


@dataclass(frozen=True)
class Received:
    """The file that a study was read from, instead of its run directories.

    `lacking` says what it does not hold and what follows, a sentence each;
    `configured` whether it holds what the runs were configured with.
    """

    file: str
    lacking: tuple[str, ...]
    configured: bool


@dataclass(frozen=True)
class Open:
    """A cell without a counted run: its state, the cause, where to look."""

    step: str
    seed: int
    state: str
    why: str
    run_dir: str | None


@dataclass(frozen=True)
class Study:
    """The cells of a study: one run each, or the reason why there is none."""

    name: str
    steps: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    counted: Mapping[tuple[str, int], Run]
    open: tuple[Open, ...]
    left_out: tuple[Run, ...]
    received: Received | None = None

    @property
    def configured(self) -> bool:
        """Whether it is known what the runs were configured with."""
        return self.received is None or self.received.configured

    def of(self, step: str) -> dict[int, Run]:
        """The counted runs of a step, by seed."""
        return {
            k: self.counted[step, k] for k in self.seeds if (step, k) in self.counted
        }


def load(study_dir: Path, selection: Selection = Selection()) -> Study:
    """The study below `study_dir`. Raises ReportError when there is no such directory."""
    if not study_dir.is_dir():
        raise ReportError(f"{study_dir}: no such study; `make` runs the configured one")
    return of_runs(shown(study_dir.name), find(study_dir), selection)


def of_runs(
    name: str,
    found_runs: Sequence[Run],
    selection: Selection,
    received: Received | None = None,
) -> Study:
    """The study of these runs, which a file holds where `received` is given.

    The selection's steps come first; those of the runs follow, a recorded control
    before the others.
    """
    runs = tuple(found_runs)
    hashes = selection.hashes
    allowed = None if hashes is None else {name[:HASH8] for name in hashes}
    eligible = [run for run in runs if allowed is None or run.hash8 in allowed]
    found = {run.step for run in eligible} - set(selection.steps)
    controls = {run.step for run in eligible if run.value("control")}
    rest = sorted(found, key=lambda step: (step not in controls, natural(step)))
    steps = (*selection.steps, *rest)
    all_seeds = tuple(sorted({run.seed for run in eligible} | set(selection.seeds)))
    cells: dict[tuple[str, int], list[Run]] = {}
    for run in eligible:
        cells.setdefault((run.step, run.seed), []).append(run)
    everything = Counter((run.step, run.seed) for run in runs)
    counted: dict[tuple[str, int], Run] = {}
    opened: list[Open] = []
    for step in steps:
        for seed in all_seeds:
            here = cells.get((step, seed), [])
            run, unfinished = _choose(here)
            if run is not None:
                counted[step, seed] = run
            others = everything[step, seed] - len(here)
            opened += _open(step, seed, run, unfinished, others)
    used = {run.run_dir for run in counted.values()} | {o.run_dir for o in opened}
    left_out = tuple(run for run in runs if run.run_dir not in used)
    return Study(
        name, steps, all_seeds, runs, counted, tuple(opened), left_out, received
    )


def _choose(runs: Sequence[Run]) -> tuple[Run | None, Run | None]:
    """The run that counts, and an unfinished one that is newer than it."""
    newest = sorted(runs, key=lambda run: (run.time, run.hash8))
    done = [run for run in newest if run.state == DONE]
    unfinished = [run for run in newest if run.state != DONE]
    best = done[-1] if done else None
    if unfinished and (best is None or unfinished[-1].time > best.time):
        return best, unfinished[-1]
    return best, None


def _open(
    step: str, seed: int, run: Run | None, unfinished: Run | None, others: int
) -> list[Open]:
    """What there is to say about a cell: nothing when a finished run is newest."""
    if unfinished is not None:
        causes = [unfinished.why]
        if run is not None:
            causes.append(f"{run.hash8}, finished before it, counts")
        why = "; ".join(cause for cause in causes if cause)
        return [Open(step, seed, unfinished.state, why, unfinished.run_dir)]
    if run is not None:
        return []
    why = "never ran"
    if others:
        why += f" as planned now; {units.plural(others, 'other run')} left out"
    return [Open(step, seed, MISSING, why, None)]


def open_cells(study: Study) -> list[tuple[str, str, str, str, str]]:
    """(step, seeds, state, cause, run directory); seeds that never ran together."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for cell in study.open:
        key = (cell.step, cell.state, cell.why, cell.run_dir or "")
        groups.setdefault(key, []).append(cell.seed)
    return [
        (step, units.numbers_in(seeds), state, why, run_dir)
        for (step, state, why, run_dir), seeds in groups.items()
    ]
