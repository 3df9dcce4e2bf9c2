"""What the scripts print: a table as text, JSON or CSV, with sentences around it."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Sequence

from matrix.results import inert_csv
from matrix.units import DASH
from records.text_table import aligned


@dataclass(frozen=True)
class Answer:
    """Rows under `columns`, sentences after them, and the script's exit status."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    notes: Sequence[str] = ()
    status: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Aligned columns; numbers with six digits."""
        table = [list(self.columns)]
        table += [
            [_cell_text(row.get(name)) for name in self.columns] for row in self.rows
        ]
        return "\n".join([self.title, "", *aligned(table), *_apart(self.notes)])

    def json(self) -> str:
        """One object; numbers in full, null for what is not a finite number."""
        whole = {"title": self.title, "rows": list(self.rows), "notes": self.notes}
        found = _finite({**whole, "status": self.status, **self.extra})
        return json.dumps(found, indent=1, ensure_ascii=False)

    def csv(self) -> str:
        """The rows under the columns' names, numbers in full, no cell a formula."""
        rows = [[row.get(name) for name in self.columns] for row in self.rows]
        return inert_csv.text([self.columns, *rows]).rstrip("\n")


def _cell_text(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _apart(notes: Sequence[str]) -> list[str]:
    return ["", *notes] if notes else []


def _finite(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
