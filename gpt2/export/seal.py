"""The checksum of an export: it covers every byte, papers and tokenizer included.

`sha256` in the papers is SHA-256 of the file that holds them, computed with its own 64
digits as zeros, where they stand first. The papers of a folder also hold the SHA-256 of
every other file there, so that one number covers the folder.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from gpt2.export.bundle import ExportError, read_papers
from gpt2.export.papers import shortened
from records import atomic
from records.files import CHUNK, RecordError, open_record, read_bytes, reading

PAPERS = "kablate.json"
HEAD = 1 << 25
"""The digits stand within so many bytes of a file."""
AGAIN = "it is damaged, or was changed after the export: export the run again"
ADDED = "README.md"
"""A page about the model may be added to a folder, and hidden files: no program takes
the model from them.
"""


def _digest(path: Path, digits: str = "") -> tuple[str, int]:
    """SHA-256 of a regular file with these digits as zeros, and where they stand.

    Raises ExportError for a file that is not there, or lacks the digits.
    """
    try:
        with open_record(path) as file:
            head = reading(path, file, HEAD)
            at = head.find(digits.encode("ascii"))
            if at < 0:
                raise ExportError(
                    f"{path} does not hold its checksum in plain: {AGAIN}"
                )
            total = hashlib.sha256(head[:at])
            total.update(b"0" * len(digits))
            total.update(head[at + len(digits) :])
            while chunk := reading(path, file, CHUNK):
                total.update(chunk)
    except (OSError, RecordError) as error:
        raise ExportError(shortened(_cause(path, error))) from None
    return total.hexdigest(), at


def _cause(path: Path, error: OSError | RecordError) -> str:
    if isinstance(error, RecordError):
        return str(error)
    return f"{path}: {error.strerror}"


def seal(path: Path, digits: str) -> None:
    """Put the checksum where `digits` stand in a file just written."""
    checksum, at = _digest(path, digits)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(checksum.encode("ascii"))


def require_sealed(path: Path, papers: dict[str, Any]) -> None:
    """Raise ExportError unless the file is what left; version 1 names no checksum."""
    if papers["version"] == 1:
        return
    checksum, _ = _digest(path, papers["sha256"])
    if checksum != papers["sha256"]:
        raise ExportError(
            f"{path} has the checksum {checksum}, its papers name {papers['sha256']}: "
            f"{AGAIN}"
        )


def note(papers: dict[str, Any]) -> str:
    """What the checksum of an export that was read covers: a line for the reader."""
    if papers["version"] == 1:
        return "checksum: of the weights alone (version 1); export the run again"
    return f"checksum: {papers['sha256']}, of all that left"


def seal_folder(folder: Path, papers: dict[str, Any]) -> None:
    """Write the papers of a folder whose other files are all there."""
    files = {path.name: _digest(path)[0] for path in sorted(folder.iterdir())}
    atomic.write_json(folder / PAPERS, {**papers, "files": files})
    seal(folder / PAPERS, papers["sha256"])


def require_covered(place: Path) -> None:
    """Raise ExportError for an export, just written, with a file that nothing covers."""
    if place.is_dir():
        read_folder(place)


def read_folder(folder: Path) -> dict[str, Any]:
    """The papers of a folder that is as it left. Raises ExportError for one that holds
    another file than left, lacks one, or has one more.
    """
    path = folder / PAPERS
    try:
        papers = read_papers(path, read_bytes(path))
    except FileNotFoundError:
        papers = read_papers(folder, None)
    except RecordError as error:
        raise ExportError(shortened(error)) from None
    require_sealed(path, papers)
    if papers["version"] > 1:
        _require_files(folder, papers)
    return papers


def _require_files(folder: Path, papers: dict[str, Any]) -> None:
    if "files" not in papers:
        raise ExportError(f"{folder / PAPERS} names no files: {AGAIN}")
    left = papers["files"]
    with os.scandir(folder) as entries:
        for entry in entries:
            known = entry.name in left or entry.name in (PAPERS, ADDED)
            if not known and not entry.name.startswith("."):
                raise ExportError(
                    f"{folder}: {shortened(entry.name)} did not leave with this model: "
                    "move it away"
                )
    for name, wanted in left.items():
        found, _ = _digest(folder / name)
        if found != wanted:
            raise ExportError(
                f"{folder / name} has the sha256 {found}, {PAPERS} names {wanted}: {AGAIN}"
            )


def text_of(path: Path) -> str:
    """The text of a file of a folder. Raises ExportError for none, and for no UTF-8."""
    try:
        return read_bytes(path).decode("utf-8")
    except FileNotFoundError:
        raise ExportError(f"{path}: no such file") from None
    except ValueError as error:
        raise ExportError(f"{path}: {shortened(error)}") from None
