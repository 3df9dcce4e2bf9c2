"""The runs of one study, read from its run directories: STEP/seed-K/HASH8.

`load` reads every run directory below a study, then decides which run counts
for each cell (step, seed): the newest finished one, among the hashes of the
current plan when they are given. Everything else stays known, as a cell that
does not count or as a run that was left out.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Iterable, Mapping, Sequence

from matrix import units
from matrix.results import energy, whole_run
from records import history
from records.cell import CellRecord
from records.files import shown
from records.layout import CellDir, RecordError

SEED_DIR = re.compile(r"seed-([0-9]+)\Z")
HASH_DIR = re.compile(r"[0-9a-f]{8}\Z")
HASH8 = 8
DONE, MISSING, DAMAGED, DIVERGED = "done", "missing", "damaged", "diverged"


class ReportError(Exception):
    """A study that cannot be reported; the message says why and what to do."""


def _at(value: Any, path: str) -> Any:
    """The value below `value` at "a.b.c"; None where a part is absent."""
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


@dataclass(frozen=True)
class Run:
    """One run directory.

    `run_dir` is relative to the study's directory. `began` is when its first
    attempt started, `time` when its last one ended (or started, if it has not
    ended), in unix seconds. `documents`
    holds run (run.json), summary, config (config.py's values, completed by those of
    younger symbols), operational
    (its symbols that are no part of the identity), attempts (under what each
    ran), energy (matrix/results/energy.py) and evaluations (name -> row); see `at`. `heads`
    are the rows of attention statistics, `sparsity` the (update, pruned share) at
    which the share changed.
    A `reused` run is another study's, read where it lies (records/pointer.py).
    """

    step: str
    seed: int
    hash8: str
    run_dir: str
    state: str
    why: str
    began: float
    time: float
    documents: Mapping[str, Any]
    evals: Sequence[Mapping[str, Any]]
    heads: tuple[Mapping[str, Any], ...] = ()
    sparsity: tuple[tuple[int, float], ...] = ()
    reused: bool = False

    def at(self, path: str) -> Any:
        """The value at "summary.facts.parameters"; None where a record lacks it."""
        return _at(self.documents, path)

    def last(self, key: str, last_evals: int) -> float | None:
        """Mean of `key` over the last evaluations; None if one does not hold it.

        Raises ReportError when the run has fewer evaluations after step 0.
        """
        first = next(iter(self.evals), {"step": 1})
        trained = len(self.evals) - (first["step"] == 0)
        if trained < last_evals:
            raise ReportError(
                f"{self.run_dir} holds {units.plural(trained, 'evaluation')} "
                f"after step 0, fewer than CONFIG_METRIC_LAST_EVALS={last_evals}: "
                "lower it, or evaluate more often (CONFIG_GPT2_EVAL_INTERVAL)"
            )
        values = [row.get(key) for row in self.evals[-last_evals:]]
        if any(value is None for value in values):
            return None
        return math.fsum(values) / last_evals


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

    def of(self, step: str) -> dict[int, Run]:
        """The counted runs of a step, by seed."""
        return {
            k: self.counted[step, k] for k in self.seeds if (step, k) in self.counted
        }


def natural(name: str) -> tuple[Any, ...]:
    """A sort key that puts 9-x before 10-y and LEARNING_RATE=1e-4 before 3e-4."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", name)
    )


def load(
    study_dir: Path,
    order: Sequence[str] | None = None,
    seeds: Collection[int] | None = None,
    hashes: Collection[str] | None = None,
) -> Study:
    """The study below `study_dir`.

    `order` names the steps that belong to it, the control first; steps found on
    disk follow, a recorded control before the others. `seeds` likewise. `hashes`
    are the cell hashes of the current plan (whole or their first 8 digits): other
    runs are left out. Raises ReportError when there is no such directory.
    """
    if not study_dir.is_dir():
        raise ReportError(f"{study_dir}: no such study; `make` runs the configured one")
    runs = tuple(_find(study_dir))
    allowed = None if hashes is None else {name[:HASH8] for name in hashes}
    eligible = [run for run in runs if allowed is None or run.hash8 in allowed]
    found = {run.step for run in eligible} - set(order or ())
    controls = {run.step for run in eligible if run.at("run.cell.control")}
    rest = sorted(found, key=lambda step: (step not in controls, natural(step)))
    steps = (*(order or ()), *rest)
    all_seeds = tuple(sorted({run.seed for run in eligible} | set(seeds or ())))
    counted: dict[tuple[str, int], Run] = {}
    opened: list[Open] = []
    for step in steps:
        for seed in all_seeds:
            here = [r for r in eligible if (r.step, r.seed) == (step, seed)]
            run, unfinished = _choose(here)
            if run is not None:
                counted[step, seed] = run
            others = sum((r.step, r.seed) == (step, seed) for r in runs) - len(here)
            opened += _open(step, seed, run, unfinished, others)
    used = {run.run_dir for run in counted.values()} | {o.run_dir for o in opened}
    left_out = tuple(run for run in runs if run.run_dir not in used)
    return Study(
        shown(study_dir.name), steps, all_seeds, runs, counted, tuple(opened), left_out
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


def _find(study_dir: Path) -> list[Run]:
    found = []
    for path in sorted(study_dir.glob("*/seed-*/*")):
        seed = SEED_DIR.match(path.parent.name)
        if seed and HASH_DIR.match(path.name) and path.is_dir():
            found.append(_read(study_dir, path, int(seed[1])))
    return sorted(found, key=lambda run: (natural(run.step), run.seed, run.hash8))


def _read(study_dir: Path, path: Path, seed: int) -> Run:
    """The run in `path`; one whose records cannot be read has the state damaged."""
    where = dict(
        step=shown(path.parent.parent.name),
        seed=seed,
        hash8=path.name,
        run_dir=shown(path.relative_to(study_dir).as_posix()),
    )
    try:
        found = whole_run.read(CellDir(path))
    except RecordError as error:
        damaged = dict(state=DAMAGED, why=str(error), began=0.0, time=0.0)
        return Run(**where, **damaged, documents={}, evals=())
    cell, run, place = found.cell, found.run, found.place
    if place.changes is not None:
        there = os.path.relpath(place.dir.path, study_dir.resolve())
        where |= {"run_dir": shown(Path(there).as_posix()), "reused": True}
        own = {"control": True, "changes": list(place.changes)}
        run = {**run, "cell": {**run["cell"], **own}}
    state, why = _stands(cell)
    return Run(
        **where,
        state=state,
        why=why,
        began=cell.attempts[0]["time"] if cell.attempts else 0.0,
        time=cell.attempts[-1]["time"] if cell.attempts else 0.0,
        documents={
            "run": run,
            "summary": cell.summary,
            "config": history.completed(found.config.values),
            "operational": found.config.operational,
            "attempts": _machines(cell.attempts),
            "energy": energy.read(
                cell.dir.gpu, _started(cell), _at(cell.summary, "tokens")
            ),
            "evaluations": found.evaluated,
        },
        evals=cell.evals,
        heads=cell.heads,
        sparsity=_sparsity(cell),
    )


def _stands(cell: CellRecord) -> tuple[str, str]:
    """The state of a run, and why it is not done."""
    state = cell.state
    if state == DONE:
        if all(math.isfinite(row["loss"]) for row in cell.evals):
            return DONE, ""
        losses = [row["loss"] for row in cell.evals[-3:]]
        return DIVERGED, f"evaluation losses end {losses}"
    if cell.failure and state in ("failed", DIVERGED):
        return state, shown(" ".join(cell.failure["error"].split()))
    return state, cell.reason.removeprefix(state).lstrip(", ").removeprefix("before: ")


def _started(cell: CellRecord) -> list[int]:
    return [row["attempt"] for row in cell.attempts if row["event"] == "start"]


def _sparsity(cell: CellRecord) -> tuple[tuple[int, float], ...]:
    """(step, share) of the first row, of those with another share, and of the last."""
    kept: list[tuple[int, float]] = []
    last = None
    for row in zip(cell.train.column("step"), cell.train.column("sparsity")):
        if row[1] is not None:
            last = row
            if not kept or row[1] != kept[-1][1]:
                kept.append(row)
    return (*kept, last) if last and last != kept[-1] else tuple(kept)


def _machines(attempts: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What the attempts of a run ran under, each value once, in order."""
    starts = [row for row in attempts if row["event"] == "start"]
    found = {key: [row.get(key) for row in starts] for key in ("torch", "python")}
    found["device"] = [(row.get("device") or {}).get("name") for row in starts]
    return {
        key: tuple(units.distinct(value for value in values if value is not None))
        for key, values in found.items()
    }


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
