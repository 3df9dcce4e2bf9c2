"""One cell directory as one object, for plans, displays and reports.

The state of a cell is a function of its files:

    done         summary.json is there and carries the cell's hash
    running      a process holds the lease
    diverged     the last attempt met a loss, gradient or weight that is not finite
    failed       the last attempt failed
    interrupted  an attempt started and did not come to its end

Beside a summary nothing else counts: a failure or an attempt without an end is what
a kill left of the clean-up (records/completion.py).
    new          nothing was started
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from records import checkpoints, completion
from records.jsonl import Row, last_per_step, read_rows
from records.layout import CellDir, RecordError, read_json, read_record
from records.lease import Holder, is_held


@dataclass(frozen=True)
class CellRecord:
    """What the files of a cell say; None or () where a file is missing."""

    dir: CellDir
    run: dict[str, Any] | None
    attempts: tuple[Row, ...]
    facts: Row | None
    train: tuple[Row, ...]
    evals: tuple[Row, ...]
    heads: tuple[Row, ...]
    summary: dict[str, Any] | None
    failure: dict[str, Any] | None
    holder: Holder | None
    state: str
    reason: str

    @property
    def step(self) -> int:
        """Completed optimizer steps, as far as the rows show."""
        if self.summary is not None:
            return self.summary["step"]
        trained = self.train[-1]["step"] + 1 if self.train else 0
        evaluated = self.evals[-1]["step"] if self.evals else 0
        return max(trained, evaluated)


def read_cell(path: Path | str) -> CellRecord:
    """Everything the directory `path` holds.

    Raises RecordError for a file of a newer schema or one that is damaged.
    Rows of an earlier attempt beyond the last step of a finished cell (a time
    budget can end a resumed run earlier) are left out.
    """
    cell = CellDir(Path(path))
    status = read_status(cell)
    run, summary = _optional(cell.run_json), _optional(cell.summary)
    rows = _rows(cell.metrics)
    train, evals = last_per_step(rows, "train"), last_per_step(rows, "eval")
    heads = last_per_step(rows, "attention")
    if summary is not None:
        train = [row for row in train if row["step"] < summary["step"]]
        evals = [row for row in evals if row["step"] <= summary["step"]]
        heads = [row for row in heads if row["step"] <= summary["step"]]
    facts = [row for row in rows if row.get("kind") == "facts"]
    return CellRecord(
        dir=cell,
        run=run,
        attempts=status.attempts,
        facts=facts[-1] if facts else None,
        train=tuple(train),
        evals=tuple(evals),
        heads=tuple(heads),
        summary=summary,
        failure=status.failure,
        holder=status.holder,
        state=status.state,
        reason=status.reason,
    )


@dataclass(frozen=True)
class CellStatus:
    """The state of a cell, without its metrics."""

    state: str
    reason: str
    holder: Holder | None
    attempts: tuple[Row, ...]
    failure: dict[str, Any] | None
    left: tuple[str, ...] = ()
    """What is left to do in a done cell (records/completion.py)."""


def read_status(cell: CellDir, hash_: str | None = None) -> CellStatus:
    """The state of the cell at `cell`; `hash_` is the identity it must have.

    Raises RecordError, with the advice to move the directory away, for a file
    that is damaged and for a summary that belongs to another identity.
    """
    held = is_held(cell.lease)  # before the files: what it wrote last is then seen
    attempts = tuple(_rows(cell.attempts))
    failure = _optional(cell.failure, read_json)
    summary = _optional(cell.summary)

    def status(state: str, reason: str, left: tuple[str, ...] = ()) -> CellStatus:
        return CellStatus(state, reason, held, attempts, failure, left)

    if summary is not None:
        _require(cell.summary, summary, hash=str, step=int)
        if hash_ is not None and summary["hash"] != hash_:
            raise RecordError(
                cell.summary,
                f"belongs to the cell {summary['hash'][:16]}, not {hash_[:16]}: "
                f"move {cell.path} away",
            )
        left = () if held else completion.leftovers(cell, summary, attempts)
        return status("done", f"done, {summary['step']} steps", left)
    for row in attempts:
        _require(cell.attempts, row, event=str, attempt=int)
    if failure is not None:
        _require(cell.failure, failure, attempt=int, error=str)
    if held:
        return status("running", f"running in {held}")
    starts = [row for row in attempts if row["event"] == "start"]
    ends = {row["attempt"]: row for row in attempts if row["event"] == "end"}
    latest = len(starts)
    if failure is not None and failure["attempt"] >= latest:
        if failure.get("status") == "diverged":
            return status("diverged", _diverged(failure))
        return status("failed", f"failed before: {failure['error']}")
    if latest == 0:
        return status("new", "never ran")
    end = ends.get(latest)
    if end is not None and end["status"] == "diverged":
        return status("diverged", _diverged(end))
    if end is not None and end["status"] == "failed":
        return status("failed", f"failed before: failed: {end['error']}")
    return status("interrupted", f"interrupted, {_resumption(cell)}")


def _diverged(record: dict[str, Any]) -> str:
    return f"diverged: {record['error']}"


def _resumption(cell: CellDir) -> str:
    """Where the next attempt begins: at the newest intact checkpoint."""
    path = checkpoints.newest_intact(cell.checkpoint_dir)
    if path is not None:
        return f"goes on from the checkpoint of step {checkpoints.step_of(path)}"
    damaged = checkpoints.found(cell.checkpoint_dir)
    return f"begins anew: no checkpoint{' is intact' if damaged else ''}"


def _optional(
    path: Path, read: Callable[[Path], dict[str, Any]] = read_record
) -> dict[str, Any] | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except RecordError as error:
        raise _damaged(path, error.why) from None


def _require(path: Path, record: Row, **kinds: type) -> None:
    """Raise RecordError when a key is missing or its value of another kind."""
    for key, kind in kinds.items():
        if type(record.get(key)) is not kind:
            found = repr(record[key]) if key in record else "absent"
            raise _damaged(path, f"{key} is {found}, expected {kind.__name__}")


def _damaged(path: Path, why: str) -> RecordError:
    away = f"; to run this cell again, move {path.parent} away"
    return RecordError(path, why + away)


def _rows(path: Path) -> list[Row]:
    try:
        return read_rows(path)
    except FileNotFoundError:
        return []
    except RecordError as error:
        raise _damaged(path, error.why) from None
