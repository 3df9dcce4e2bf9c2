"""The one reader of each record of a run: checked by records/fields.py, or an error.

Each raises FileNotFoundError where there is no file, and RecordError, which names
the file and the field, where it holds anything but what its writer writes.
"""

from pathlib import Path
from typing import Any, Iterator

from records import fields
from records.jsonl import Row, read_rows, rows
from records.layout import read_json, read_record

Record = dict[str, Any]


def run(path: Path) -> Record:
    """run.json."""
    return read_record(path, fields.RUN)


def trained(path: Path) -> Record:
    """run.json as training and what comes after it need it: the cell's hash."""
    return read_record(path, fields.TRAINED)


def summary(path: Path) -> Record:
    """summary.json."""
    return read_record(path, fields.SUMMARY)


def failure(path: Path) -> Record:
    """failure.json, which older versions wrote without a schema."""
    return read_json(path, fields.FAILURE)


def attempts(path: Path) -> list[Row]:
    """attempts.jsonl."""
    return read_rows(path, fields.attempt)


def metrics(path: Path) -> Iterator[Row]:
    """metrics.jsonl, row by row: there may be millions."""
    return rows(path, fields.metric)


def samples(path: Path) -> Iterator[Row]:
    """gpu.jsonl, row by row."""
    return rows(path, fields.sample)


def job(path: Path) -> Record:
    """slurm.json."""
    return read_record(path, fields.SLURM)
