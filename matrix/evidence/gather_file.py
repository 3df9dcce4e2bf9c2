"""Computes what a report says from a file that somebody handed on."""

import tempfile
from pathlib import Path
from typing import Callable

from matrix.evidence.gather import Report, gathered
from matrix.plan.rerun import REPLACED
from matrix.results import read_runs_csv, read_runs_jsonl
from matrix.results.received import HandedOn, refuse
from matrix.results.run import ReportError
from records import atomic
from records.files import shown

READERS: dict[str, Callable[[Path], HandedOn]] = {
    ".csv": read_runs_csv.read,
    ".jsonl": read_runs_jsonl.read,
}


def gather_file(path: Path) -> Report:
    """The report of a runs.jsonl or runs.csv; writes nothing that stays.

    The sealed records that the file carries are read where a study has them, in a
    directory that is gone afterwards. Raises ReportError.
    """
    if path.suffix not in READERS:
        refuse(path, "is neither a study's directory nor a runs.csv or runs.jsonl")
    handed = READERS[path.suffix](path)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / handed.study.name
        try:
            place.mkdir()
            for name, record in handed.records.items():
                atomic.write_json(place / name, record)
            for name in handed.replaced:
                (Path(scratch) / REPLACED / place.name / name).mkdir(parents=True)
        except OSError as error:
            refuse(path, f"names what no file can be called: {error.strerror}")
        try:
            return gathered(handed.study, handed.selection, place)
        except ReportError as error:
            message = str(error).replace(f"{place}", shown(path))
            raise ReportError(message) from None
