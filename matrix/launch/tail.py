"""Following metrics.jsonl while a cell runs, for the display only."""

import json
from pathlib import Path
from typing import Any


class Tail:
    """The newest facts, train and eval rows of a growing file.

    A line is looked at once it is complete; one that is not JSON is left to
    records.jsonl, which reads the file when it counts.
    """

    def __init__(self, path: Path):
        self.path = path
        self._offset = 0
        self._rest = b""
        self._rows: dict[str, dict[str, Any]] = {}

    def poll(self) -> None:
        """Read what was added since the last call."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            self._rows[row["kind"]] = row

    def row(self, kind: str) -> dict[str, Any]:
        """The newest row of this kind, {} before the first."""
        return self._rows.get(kind, {})

    @property
    def step(self) -> int:
        """Completed steps."""
        train, evaluated = self.row("train"), self.row("eval")
        return max(train.get("step", -1) + 1, evaluated.get("step", 0))

    @property
    def loss(self) -> float | None:
        """The newest training loss, before the first one the newest evaluation's."""
        return self.row("train").get("loss", self.row("eval").get("loss"))

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
