"""A run directory that can be counted on, or a RecordError that says why it cannot.

The plan and the report ask the same question of the same reader, so that a run which
one of them leaves out is done for neither.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Mapping

from kconf import config_py
from kconf.syntax import ConfigError
from records import evaluations, pointer
from records import read as records
from records.cell import CellRecord, CellStatus, damaged, read_cell, read_status
from records.layout import CellDir, RecordError

DONE = "done"


@dataclass(frozen=True)
class Whole:
    """What lies in a run's directory, or where its pointer leads; all of it checked.

    `run` is run.json, `evaluated` the last row of every evaluation, by name.
    """

    place: pointer.Place
    cell: CellRecord
    run: Mapping[str, Any]
    config: config_py.Config
    evaluated: Mapping[str, Mapping[str, Any]]


def read(own: CellDir) -> Whole:
    """The run of the directory `own`. Raises RecordError."""
    place = pointer.follow(own)
    if place.dir.path.name != own.path.name:
        why = f"points to {place.dir.path}, another cell: remove {own.path}"
        raise RecordError(own.path / pointer.NAME, why)
    cell = read_cell(place.dir.path)
    away = f"move {cell.dir.path} away"
    if cell.run is None:
        raise RecordError(cell.dir.run_json, f"is missing: {away}")
    run, found = run_of(cell.dir), config(cell.dir)
    _require_its_own(cell, run, found, away)
    if cell.state == DONE:
        _require_finished(cell, away)
    return Whole(place, cell, run, found, _evaluated(cell))


def place_and_status(
    own: CellDir, hash_: str | None = None
) -> tuple[CellDir, CellStatus]:
    """Where a cell's run lies and how it stands: `damaged` where the report could not
    count it. Of a cell that runs or never ran only the state's own records are read.
    """
    place = own
    try:
        place = pointer.follow(own).dir
        status = read_status(place, hash_)
        check(own, status)
    except RecordError as error:
        return place, damaged(error)
    return place, status


def check(own: CellDir, status: CellStatus) -> None:
    """Raise RecordError for a run that has ended and that the report could not count.

    One that was lost before its run.json came is started again, not moved away.
    """
    if status.state in ("new", "running"):
        return
    if status.state == DONE or os.path.lexists(pointer.follow(own).dir.run_json):
        read(own)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """sha256 hex of the canonical JSON of a cell's identity."""
    text = json.dumps(dict(identity), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_of(cell: CellDir) -> dict[str, Any]:
    """run.json as a study's cell has it. Raises RecordError."""
    try:
        return records.run(cell.run_json)
    except RecordError as error:
        why = f"{error.why}; to run this cell again, move {cell.path} away"
        raise RecordError(error.path, why) from None


def config(cell: CellDir) -> config_py.Config:
    """config.py. Raises RecordError."""
    try:
        return config_py.read(cell.config_py)
    except ConfigError as error:
        why = f"{error}; to run this cell again, move {cell.path} away"
        raise RecordError(cell.config_py, why) from None


def _require_its_own(
    cell: CellRecord, run: Mapping[str, Any], found: config_py.Config, away: str
) -> None:
    """The records are of one cell, and the directory is named after it."""
    told, path = run["cell"], cell.dir.path
    for name, wanted, here in (
        ("hash", told["hash"][:8], path.name),
        ("seed", f"seed-{told['seed']}", path.parent.name),
        ("step", told["step"], path.parent.parent.name),
    ):
        if wanted != here:
            why = f"cell.{name} is {told[name]}, and the directory is {here}: {away}"
            raise RecordError(cell.dir.run_json, why)
    if identity_hash(told["identity"]) != told["hash"]:
        why = "is not the hash of cell.identity"
        raise RecordError(cell.dir.run_json, f"cell.hash {why}: {away}")
    if found.values.get("SEED", told["seed"]) != told["seed"]:
        why = f"SEED is {found.values['SEED']}, that of run.json {told['seed']}"
        raise RecordError(cell.dir.config_py, f"{why}: {away}")
    if found.identity != told["identity"]["config"]:
        why = "holds another configuration than cell.identity.config of run.json"
        raise RecordError(cell.dir.config_py, f"{why}: {away}")
    if cell.summary is not None and cell.summary["hash"] != told["hash"]:
        why = (
            f"hash is {cell.summary['hash'][:16]}, that of run.json {told['hash'][:16]}"
        )
        raise RecordError(cell.dir.summary, f"{why}: {away}")


def _require_finished(cell: CellRecord, away: str) -> None:
    """A finished run has its last evaluation, twice."""
    last = cell.evals[-1] if cell.evals else {"step": 0}
    if last["step"] == 0:
        why = f"holds no evaluation of a finished run: {away}"
        raise RecordError(cell.dir.metrics, why)
    told = cell.summary.get("final_eval")
    if told is None:
        raise RecordError(cell.dir.summary, f"final_eval is absent: {away}")
    if not math.isfinite(told["loss"]) and math.isfinite(last["loss"]):
        why = f"final_eval.loss is {told['loss']}, expected a finite number: {away}"
        raise RecordError(cell.dir.summary, why)


def _evaluated(cell: CellRecord) -> dict[str, Mapping[str, Any]]:
    """The evaluations of a run. Raises RecordError for one of other weights."""
    rows = evaluations.read(cell.dir)
    weights = (cell.summary or {}).get("model_sha256")
    for name, row in rows.items():
        if row["model_sha256"] != weights:
            why = f"evaluates other weights on {name}: move the file away"
            raise RecordError(cell.dir.evaluations, why)
    return rows
