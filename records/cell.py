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

A file that is not what its writer writes makes the cell `damaged` (status_of).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from records import checkpoints, completion, read
from records.columns import REAL, WHOLE, Series
from records.files import shown
from records.jsonl import Row
from records.layout import CellDir, RecordError
from records.lease import Holder, is_held, skew
from records.plurals import plural

DAMAGED = "damaged"
Found = TypeVar("Found")
TRAIN = {"attempt": WHOLE, "step": WHOLE, "loss": REAL, "lr": REAL, "grad_norm": REAL}
TRAIN |= {"tokens": WHOLE, "time": REAL, "tokens_per_s": REAL, "mfu": REAL}
TRAIN |= {"sparsity": REAL}
EVAL = {"attempt": WHOLE, "step": WHOLE, "loss": REAL, "perplexity": REAL}
EVAL |= {"bits_per_byte": REAL, "tokens": WHOLE, "time": REAL, "curve_loss": REAL}


@dataclass(frozen=True)
class CellRecord:
    """What the files of a cell say; None or () where a file is missing."""

    dir: CellDir
    run: dict[str, Any] | None
    attempts: tuple[Row, ...]
    facts: Row | None
    train: Series
    evals: Series
    attention: tuple[Row, ...]
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
    run = _optional(cell.run_json, read.trained)
    summary = _optional(cell.summary, read.summary)
    last = None if summary is None else summary["step"]
    facts, train, evals, attention = _metrics(cell, last)
    return CellRecord(
        dir=cell,
        run=run,
        attempts=status.attempts,
        facts=facts,
        train=train,
        evals=evals,
        attention=attention,
        summary=summary,
        failure=status.failure,
        holder=status.holder,
        state=status.state,
        reason=status.reason,
    )


def _metrics(
    cell: CellDir, last: int | None
) -> tuple[Row | None, Series, Series, tuple[Row, ...]]:
    """The newest facts, and training, evaluations and attention up to the step `last`."""
    facts, train, evals = None, Series("train", TRAIN), Series("eval", EVAL)
    attention: dict[int, Row] = {}
    for row in _each(cell.metrics, read.metrics):
        if row["kind"] == "train":
            train.add(row)
        elif row["kind"] == "eval":
            evals.add(row)
        elif row["kind"] == "attention":
            attention[row["step"]] = row
        else:
            facts = row
    return (
        facts,
        train.settle(lambda step: last is None or step < last),
        evals.settle(lambda step: last is None or step <= last),
        tuple(attention[k] for k in sorted(attention) if last is None or k <= last),
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
    held = _guarded(cell.lease, is_held)  # first: what it wrote last is then seen
    attempts = tuple(_each(cell.attempts, read.attempts))
    failure = _optional(cell.failure, read.failure)
    summary = _optional(cell.summary, read.summary)
    _optional(cell.slurm, read.job)
    ahead = None if held else skew(cell.lease)

    def status(state: str, reason: str, left: tuple[str, ...] = ()) -> CellStatus:
        note = f"; {ahead}" if ahead and state != "done" else ""
        return CellStatus(state, shown(reason) + note, held, attempts, failure, left)

    if summary is not None:
        if hash_ is not None and summary["hash"] != hash_:
            raise RecordError(
                cell.summary,
                f"belongs to the cell {summary['hash'][:16]}, not {hash_[:16]}: "
                f"move {cell.path} away",
            )
        left = () if held else completion.leftovers(cell, summary, attempts)
        return status("done", f"done, {plural(summary['step'], 'step')}", left)
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
    damaged = checkpoints.existing(cell.checkpoint_dir)
    return f"begins anew: no checkpoint{' is intact' if damaged else ''}"


def status_of(cell: CellDir, hash_: str | None = None) -> CellStatus:
    """What `read_status` says, and of a damaged record the state `damaged`.

    Such a cell is left alone, whatever else its files say.
    """
    try:
        return read_status(cell, hash_)
    except RecordError as error:
        return damaged(error)


def damaged(error: RecordError) -> CellStatus:
    """The state of a cell with a record that cannot be read."""
    return CellStatus(DAMAGED, str(error), None, (), None)


def _guarded(path: Path, reader: Callable[[Path], Found]) -> Found:
    """What the reader finds; damage with the advice what to do about it."""
    try:
        return reader(path)
    except RecordError as error:
        away = f"; to run this cell again, move {path.parent} away"
        raise RecordError(error.path, error.why + away) from None


def _optional(path: Path, reader: Callable[[Path], Found]) -> Found | None:
    try:
        return _guarded(path, reader)
    except FileNotFoundError:
        return None


def _each(path: Path, reader: Callable[[Path], Iterable[Row]]) -> Iterator[Row]:
    """The rows of a file, none where there is no file."""
    rows = iter(_optional(path, reader) or ())
    try:
        while (row := _guarded(path, lambda _: next(rows, None))) is not None:
            yield row
    except FileNotFoundError:
        return


def spent_seconds(rows: Iterable[Row]) -> float:
    """Seconds that the attempts of attempts.jsonl with a recorded end took.

    An end row says so itself, by a clock that nobody sets. Rows of older versions
    have no `seconds`; there the difference of the two times counts.
    """
    starts, total = {}, 0.0
    for row in rows:
        if row["event"] == "start":
            starts[row["attempt"]] = row["time"]
        elif "seconds" in row:
            total += row["seconds"]
        elif row["attempt"] in starts:
            total += max(row["time"] - starts[row["attempt"]], 0.0)  # set back
    return total
