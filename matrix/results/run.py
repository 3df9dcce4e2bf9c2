"""One run as reports read it: its directory STEP/seed-K/HASH8, checked and at hand."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from matrix import units
from matrix.results import energy, evaluated_text, recorded, training_curve, whole_run
from matrix.results.evaluated_text import EvaluatedText
from records import history
from records.cell import CellRecord
from records.files import shown
from records.layout import CellDir, RecordError

SEED_DIR = re.compile(r"seed-([0-9]+)\Z")
HASH_DIR = re.compile(r"[0-9a-f]{8}\Z")
MIXED = (
    "CONFIG_METRIC_LAST_EVALS above 1 averages evaluations, and the last one read "
    "another text than those before it (CONFIG_GPT2_FINAL_EVAL_WINDOWS): set one of "
    "them back, to 1 or to 0"
)
DONE, DAMAGED, DIVERGED = "done", "damaged", "diverged"


class ReportError(Exception):
    """A study that cannot be reported; the message says why and what to do."""


@dataclass(frozen=True)
class Run:
    """One run directory.

    `run_dir` is relative to the study's directory. `began` is when its first
    attempt started, `time` when its last one ended (or started, if it has not
    ended), in unix seconds. `documents`
    holds run (run.json), summary, config (config.py's values, completed by those of
    younger symbols), operational
    (its symbols that are no part of the identity), attempts (under what each
    ran), sessions (when and where each ran), energy (matrix/results/energy.py),
    evaluations (name -> row) and evaluated_text (matrix/results/evaluated_text.py).
    `attention`
    are the rows of attention statistics, `sparsity` the (update, pruned share) at
    which the share changed, `training` the thinned training rows.
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
    attention: tuple[Mapping[str, Any], ...] = ()
    sparsity: tuple[tuple[int, float], ...] = ()
    training: tuple[training_curve.Point, ...] = ()
    reused: bool = False

    def value(self, name: str) -> Any:
        """A recorded value (matrix/results/recorded.py); None where a record lacks it."""
        return _at(self.documents, recorded.PATHS[name])

    @property
    def config(self) -> Mapping[str, Any]:
        """The value of every symbol."""
        return self.documents["config"]

    @property
    def operational(self) -> Sequence[str]:
        """The symbols that are no part of the identity."""
        return self.documents["operational"]

    @property
    def software(self) -> Mapping[str, Sequence[str]]:
        """{torch, python, device, driver, environment: what the attempts ran under, each
        once}.
        """
        return self.documents.get("attempts", {})

    @property
    def sessions(self) -> Sequence[Mapping[str, Any]]:
        """{host, devices, start, end} of every attempt, in unix seconds."""
        return self.documents.get("sessions", ())

    @property
    def evaluations(self) -> Mapping[str, Mapping[str, Any]]:
        """The last evaluation on each text or task after training, by name."""
        return self.documents.get("evaluations", {})

    @property
    def evaluated_text(self) -> EvaluatedText | str:
        """What the last evaluation cost by document or window, or why nobody knows."""
        return self.documents.get("evaluated_text", evaluated_text.NOT_RECORDED)

    def curve(self, against: str) -> list[tuple[float, float]]:
        """(x, validation loss) of every evaluation, x its "tokens" or its "time"; all
        on one text, whatever the last one reads.
        """
        return [
            (row[against], row.get("curve_loss", row["loss"]))
            for row in self.evals
            if against in row
        ]

    def last(self, key: str, last_evals: int) -> float | None:
        """Mean of `key` over the last evaluations; None if one does not hold it.

        Raises ReportError when the run has fewer evaluations after step 0, and for
        several of which the last read another text.
        """
        if last_evals > 1 and self.config.get("GPT2_FINAL_EVAL_WINDOWS"):
            raise ReportError(f"{self.run_dir}: {MIXED}")
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


def _at(value: Any, path: str) -> Any:
    """The value below `value` at "a.b.c"; None where a part is absent."""
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def natural(name: str) -> tuple[Any, ...]:
    """A sort key that puts 9-x before 10-y and LEARNING_RATE=1e-4 before 3e-4."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", name)
    )


def find(study_dir: Path) -> list[Run]:
    """Every run directory of a study, by step, seed and hash."""
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
            "sessions": _sessions(cell.attempts, cell.evals),
            "energy": energy.read(
                cell.dir.gpu, _started(cell), _at(cell.summary, "tokens")
            ),
            "evaluations": found.evaluated,
            "evaluated_text": evaluated_text.read(cell.dir, cell.summary),
        },
        evals=cell.evals,
        attention=cell.attention,
        sparsity=_sparsity(cell),
        training=training_curve.thinned(cell.train),
    )


def _stands(cell: CellRecord) -> tuple[str, str]:
    """The state of a run, and why it is not done."""
    state = cell.state
    if state == DONE:
        if all(math.isfinite(row["loss"]) for row in cell.evals):
            return DONE, ""
        losses = [row["loss"] for row in cell.evals[-3:]]
        return DIVERGED, f"validation losses end {losses}"
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


def _sessions(
    attempts: Iterable[Mapping[str, Any]], evals: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """When and where each attempt ran; one without an end, until the next began, or as
    long as it had trained by its last evaluation.

    `devices` are the PCI addresses of its GPUs, or "cpu"; none where neither is known.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in attempts:
        if row["event"] == "start":
            for session in found.values():
                if session["end"] is None:
                    session["end"] = row["time"]
            place = {"host": row.get("host"), "devices": _devices(row)}
            found[row["attempt"]] = {**place, "start": row["time"], "end": None}
        elif row["attempt"] in found:
            found[row["attempt"]]["end"] = row["time"]
    trained = {row["attempt"]: row.get("time") or 0.0 for row in evals}
    for attempt, session in found.items():
        if session["end"] is None:
            session["end"] = session["start"] + trained.get(attempt, 0.0)
    return tuple(found.values())


def _devices(start: Mapping[str, Any]) -> frozenset[str]:
    """What an attempt ran on: its own record, else what its launcher gave it."""
    if (start.get("device") or {}).get("kind") == "cpu":
        return frozenset({"cpu"})
    placed = start.get("placement") or {}
    buses = start.get("gpus") or placed.get("buses")
    listed = buses if isinstance(buses, list) else []
    return frozenset(bus for bus in listed if isinstance(bus, str))


def _machines(attempts: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What the attempts of a run ran under, each value once, in order."""
    starts = [row for row in attempts if row["event"] == "start"]
    found = {key: [row.get(key) for row in starts] for key in ("torch", "python")}
    found["device"] = [(row.get("device") or {}).get("name") for row in starts]
    found["driver"] = [(row.get("device") or {}).get("kernel_driver") for row in starts]
    given = [row.get("numeric_environment") for row in starts]
    found["environment"] = [None if e is None else units.assigned(e) for e in given]
    return {
        key: tuple(units.distinct(value for value in values if value is not None))
        for key, values in found.items()
    }
