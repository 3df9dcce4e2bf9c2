"""Following metrics.jsonl while a cell runs, for the display only."""

from pathlib import Path

from records import fields
from records.jsonl import Growing, Reader, Row
from records.layout import RecordError


class Tail:
    """The newest facts, train and eval rows of a growing file.

    A line is looked at once it is complete. `damage` says what is wrong with a row
    that is none; the rows before it stand, and nothing after it is read.
    """

    def __init__(self, path: Path):
        self.damage: RecordError | None = None
        self._lines = Growing(path)
        self._reader = Reader(path, fields.metric)
        self._rows: dict[str, Row] = {}

    def poll(self) -> None:
        """Read what was added since the last call."""
        if self.damage:
            return
        try:
            for line in self._lines.lines():
                row = self._reader.row(line)
                if row is not None:
                    self._rows[row["kind"]] = row
        except RecordError as error:
            self.damage = error

    def row(self, kind: str) -> Row:
        """The newest row of this kind, {} before the first."""
        return self._rows.get(kind, {})

    @property
    def step(self) -> int:
        """Completed steps."""
        train, evaluated = self.row("train"), self.row("eval")
        return max(train.get("step", -1) + 1, evaluated.get("step", 0))

    @property
    def training_loss(self) -> float | None:
        """The newest training loss, nats/token; None before the first."""
        return self.row("train").get("loss")

    @property
    def validation_loss(self) -> float | None:
        """The newest validation loss, nats/token; None before the first."""
        return self.row("eval").get("loss")

    @property
    def rate(self) -> float | None:
        """Tokens per second, None while unknown."""
        return self.row("train").get("tokens_per_s")

    @property
    def steps(self) -> int | None:
        """Steps the run will take at most, None before the facts."""
        return self.row("facts").get("max_iters")

    @property
    def remaining(self) -> float | None:
        """Seconds of training left, None while unknown."""
        per_step = self.row("facts").get("tokens_per_step")
        if not self.rate or not self.steps or not per_step:
            return None
        return (self.steps - self.step) * per_step / self.rate
