"""evaluations.jsonl: what a finished run was asked after its training.

One row per evaluation of a text or a task, append-only; for two rows of one name
the last counts. A row says under which settings it was made, so that numbers of
different settings are never taken for one measurement. docs/records.md lists the
fields.
"""

from collections.abc import Mapping
from typing import Any

from records.jsonl import Row, open_append, read_rows
from records.layout import CellDir, RecordError

SCHEMA = 1
FIELDS = {
    "name": str,
    "kind": str,
    "sha256": str,
    "settings": dict,
    "metrics": dict,
    "model_sha256": str,
}


def append(cell: CellDir, row: Mapping[str, Any]) -> None:
    """Add a row; it gets the schema and the number that readers count on."""
    earlier = read_rows(cell.evaluations) if cell.evaluations.exists() else []
    with open_append(cell.evaluations) as file:
        file.append({"schema": SCHEMA, "attempt": len(earlier) + 1, **row})
        file.sync()


def read(cell: CellDir) -> dict[str, Row]:
    """The last row of each name, {} where nothing was evaluated.

    Raises RecordError for a file that is damaged, of a newer schema, or without
    a field that readers need.
    """
    try:
        rows = read_rows(cell.evaluations)
    except FileNotFoundError:
        return {}
    for row in rows:
        schema = row.get("schema")
        if type(schema) is not int or not 1 <= schema <= SCHEMA:
            why = f"has a row of schema {schema!r}, this code reads up to {SCHEMA}"
            raise RecordError(cell.evaluations, why)
        for name, kind in FIELDS.items():
            if not isinstance(row.get(name), kind):
                why = f"has a row whose {name} is {row.get(name)!r:.60}"
                raise RecordError(cell.evaluations, f"{why}: move the file away")
    return {row["name"]: row for row in rows}
