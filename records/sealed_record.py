"""Records that say something in advance, with a hash that shows an edit.

Written once, atomically, and never replaced: what was announced stays announced.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Mapping

from records import atomic
from records.kinds import Kind, Unfit
from records.layout import RecordError, read_json

SCHEMA = 1
SEAL = "sha256"


def digest(record: Mapping[str, Any]) -> str:
    """sha256 hex of the record's canonical JSON, the seal left out."""
    kept = {key: value for key, value in record.items() if key != SEAL}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, record: Mapping[str, Any]) -> str:
    """Write a new sealed record; returns its seal.

    Raises RecordError when there is one already.
    """
    if path.exists():
        raise RecordError(path, "is there already and is never replaced")
    whole = {"schema": SCHEMA, **record}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, {**whole, SEAL: digest(whole)})
    return digest(whole)


def read(path: Path, kind: Kind) -> dict[str, Any] | None:
    """The record, None when there is none.

    Raises RecordError for one of another schema, one that was edited, and one whose
    fields are not what `kind` says: a seal shows an edit, it does not prevent one.
    """
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    if record.get("schema") != SCHEMA:
        found = record.get("schema")
        raise RecordError(path, f"has schema {found}, this code knows {SCHEMA}")
    if record.get(SEAL) != digest(record):
        raise RecordError(path, "was edited since it was written: its seal is broken")
    try:
        kind(record)
    except Unfit as unfit:
        raise RecordError(path, str(unfit)) from None
    return record
