"""A study that comes as one file: what is asked of every line before it is a run.

The file is somebody else's. What is malformed is refused in one line that names the
file and the line; nothing is read beyond the limits here, and no path in it is opened.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, NoReturn, Sequence

from matrix.results.recorded import PATHS
from matrix.results.run import DONE, HASH_DIR, ReportError, Run
from matrix.results.selection import Selection
from matrix.results.study import Study
from records import fields
from records.files import RecordError, lines, shown
from records.kinds import Unfit, abbreviated, integer
from records.kinds import fields as object_of
from records.kinds import matching, nullable, number, text

MOST_BYTES = 1 << 26
MOST_RUNS = 2_000
MOST_VALUES = 4_000_000
"""Settings and evaluations of all runs of a file together."""
ENERGY = object_of(
    {},
    {
        "joules": nullable(number(0, 1e18)),
        "seconds": nullable(number(0, 1e12)),
        "per_token": nullable(number(0, 1e18)),
        "remark": text,
    },
)
TITLE = matching(r"(?![.])[^/\x00-\x1f\x7f]{1,200}", "a study's name")
"""A study is a directory somewhere, and this its name."""
NOUGHT = "0" * 64
UNKNOWN = {
    "run": {
        "cell": {
            "study": "unknown",
            "step": "unknown",
            "seed": 0,
            "hash": NOUGHT,
            "identity": dict.fromkeys(("config", "code", "dataset"), NOUGHT),
        },
        "data_dir": "unknown",
        "provenance": {"time": 0},
    },
    "summary": {
        "hash": NOUGHT,
        "step": 0,
        "final_eval": {"step": 0, "loss": 0.0},
        "last_evaluation": {
            **dict.fromkeys(("sha256", "text_sha256"), NOUGHT),
            **dict.fromkeys(("tokens", "bytes"), 1),
        },
    },
}
"""What stands in a check, and nowhere else, for fields that a file does not hold."""


def symbol_value(value: Any) -> None:
    """What a symbol can have."""
    if value is not None and type(value) not in (bool, int, str):
        raise Unfit(f"is {abbreviated(value)}, expected the value of a symbol")
    if type(value) is str:
        text(value)


INTEGERS = ("GPT2_BLOCK_SIZE", "GPT2_LAYERS", "GPT2_MAX_TIME", "GPT2_EVAL_WINDOWS")
INTEGERS += ("GPT2_EVAL_INTERVAL", "RUNS_PER_GPU")
"""Symbols that reports count with."""
CONFIG = object_of(
    {},
    dict.fromkeys(INTEGERS, nullable(integer(0))),
    symbol_value,
    matching(r"[A-Z][A-Z0-9_]{0,99}", "a symbol"),
)
KINDS = {
    "run": fields.RUN,
    "summary": fields.SUMMARY,
    "energy": ENERGY,
    "config": CONFIG,
}


@dataclass(frozen=True)
class HandedOn:
    """A study from a file, and what lay in its directory beside the runs.

    `records` are the sealed records by the names of their files, `replaced` the places
    of runs that others took the place of (STEP/seed-K/HASH8-N).
    """

    study: Study
    selection: Selection
    records: Mapping[str, Mapping[str, Any]]
    replaced: tuple[str, ...]


class Refused(ReportError):
    """A line that is not what its writer writes; `at` adds the file and its number."""

    def at(self, path: Path, line: int) -> ReportError:
        """The error as a reader sees it."""
        return ReportError(shown(f"{path}: line {line}: {self}"))


def refuse(path: Path, why: str) -> NoReturn:
    """Raise the ReportError about a file as a whole."""
    raise ReportError(shown(f"{path}: {why}"))


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a file of at most MOST_BYTES. Raises ReportError."""
    size = 0
    try:
        for count, line in enumerate(lines(path), start=1):
            size += len(line)
            if size > MOST_BYTES:
                refuse(path, f"is longer than {MOST_BYTES >> 20} MiB")
            yield count, line
    except FileNotFoundError:
        refuse(path, "no such file")
    except RecordError as error:
        raise ReportError(str(error)) from None


def object_in(line: bytes) -> dict[str, Any]:
    """The JSON object of a line: strict JSON, no name twice. Raises Refused."""

    def constant(word: str) -> NoReturn:
        raise ValueError(f"holds {word}, which is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise ValueError("names a field twice")
        return made

    try:
        found = json.loads(
            line.decode("utf-8"), parse_constant=constant, object_pairs_hook=once
        )
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused("is not a JSON object")
    return found


def documents_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """A run's documents made of its values by name, as matrix/results/run.py has them."""
    made: dict[str, Any] = {}
    inner = sorted(values, key=lambda word: -PATHS[word].count("."))
    for word in inner:  # what lies deeper first: nothing is put into a value
        value = values[word]
        *folders, last = PATHS[word].split(".")
        here = made
        for folder in folders:
            here = here.setdefault(folder, {})
        here[last] = value
    return made


def require_kinds(documents: Mapping[str, Any]) -> None:
    """The documents are of the kinds of the records that they come from, as far as a
    file holds them. Raises Unfit.
    """
    for word, kind in KINDS.items():
        found = documents.get(word, {})
        try:
            kind(_completed(UNKNOWN.get(word, {}), found))
        except Unfit as unfit:
            raise unfit.within(word) from None


def _completed(base: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(found)
    for word, value in base.items():
        if word not in made:
            made[word] = value
        elif isinstance(value, Mapping) and isinstance(made[word], Mapping):
            made[word] = _completed(value, made[word])
    return made


def require_place(run: Run) -> None:
    """A run lies where its step, seed and hash say. Raises Refused."""
    if not HASH_DIR.fullmatch(run.hash8):
        raise Refused(f"hash is {run.hash8!r}, expected 8 hexadecimal digits")
    end = f"seed-{run.seed}/{run.hash8}"
    lies = run.run_dir.endswith(f"/{end}")
    if not lies or not (run.reused or run.run_dir == f"{run.step}/{end}"):
        raise Refused(f"run_dir is {run.run_dir!r}, expected {run.step}/{end}")
    whole = run.value("cell_hash")
    if whole is not None and whole[:8] != run.hash8:
        raise Refused(f"cell_hash is {whole[:16]}, hash {run.hash8}")


def require_apart(path: Path, numbers: Sequence[int], runs: Sequence[Run]) -> None:
    """No run stands in the file twice. Raises ReportError."""
    seen: dict[tuple[str, int, str], int] = {}
    for line, run in zip(numbers, runs):
        key = (run.step, run.seed, run.hash8)
        if key in seen:
            refuse(path, f"line {line} repeats line {seen[key]}: {run.run_dir}")
        seen[key] = line


def require_finished(run: Run, needed: Sequence[str]) -> None:
    """A run that is done has `needed` and ended with a finite loss. Raises Refused."""
    if run.state != DONE:
        return
    for word in needed:
        if run.value(word) is None:
            raise Refused(f"is done and holds no {word}")
    if not run.evals or run.evals[-1]["step"] == 0:
        raise Refused("is done and holds no evaluation")
    losses = [run.value("final_loss"), *(row["loss"] for row in run.evals)]
    if not all(map(math.isfinite, losses)):
        raise Refused("is done and its loss is not finite")
