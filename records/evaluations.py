"""evaluations.jsonl: what a finished run was asked after its training.

One row per evaluation of a text or a task, append-only; for two rows of one name
the last counts. A row says under which settings it was made, so that numbers of
different settings are never taken for one measurement. docs/records.md lists the
fields.
"""

from collections.abc import Mapping
from typing import Any

from records.fields import EVALUATION
from records.jsonl import Row, open_append, read_rows
from records.kinds import Unfit
from records.layout import CellDir, RecordError

SCHEMA = 1


def append(cell: CellDir, row: Mapping[str, Any]) -> None:
    """Add a row; it gets the schema and the number that readers count on."""
    earlier = read_rows(cell.evaluations) if cell.evaluations.exists() else []
    with open_append(cell.evaluations) as file:
        file.append({"schema": SCHEMA, "attempt": len(earlier) + 1, **row})
        file.sync()


def read(cell: CellDir) -> dict[str, Row]:
    """The last row of each name, {} where nothing was evaluated.

    Raises RecordError for a file that is damaged or of a newer schema.
    """
    try:
        rows = read_rows(cell.evaluations, _row)
    except FileNotFoundError:
        return {}
    except RecordError as error:
        raise RecordError(error.path, f"{error.why}: move the file away") from None
    return {row["name"]: row for row in rows}


def _row(row: Row) -> None:
    """A row of a schema that this code knows."""
    EVALUATION(row)
    if row["schema"] > SCHEMA:
        raise Unfit(f"is {row['schema']}, this code reads up to {SCHEMA}", "schema")
