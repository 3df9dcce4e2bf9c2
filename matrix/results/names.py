"""A run, a step or a study by what a person types: RUN=, STUDY=, A= and B=.

A run is a path (its directory, or one above its hashes), STUDY/STEP/seed-K, STEP/seed-K
of the loaded study, each with or without /HASH8, the beginning of a path or of a hash,
or "newest", the run below OUTPUT that finished last. A step is its number, its name or
how that begins. Where several hashes lie under one step and seed, the newest finished
one is meant, as in reports. A study is a name below OUTPUT, or a path.

A name that means nothing, or several things, raises ConfigError, which lists what there
is.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, NamedTuple, Sequence

from kconf import files
from kconf.syntax import ConfigError, Finding
from matrix import units
from matrix.results import whole_run
from matrix.results.run import DONE, HASH_DIR, SEED_DIR
from records import pointer, read
from records.files import shown
from records.layout import CellDir, RecordError
from records.spelling import closest

NEWEST = "newest"
PATTERNS = ("*", "seed-*/*", "*/seed-*/*")
"""Run directories below a seed's, a step's and a study's."""
SHORTEST = 4
"""Characters of a hash that alone name a run: fewer might be the number of a step."""
LISTED = 12
"""Names that a refusal lists."""


class Found(NamedTuple):
    """A run directory by the parts of its path below OUTPUT."""

    study: str
    step: str
    seed: str
    hash8: str
    path: Path

    @property
    def name(self) -> str:
        """STUDY/STEP/seed-K/HASH8."""
        return "/".join(self[:4])


@dataclass(frozen=True)
class Results:
    """Where names are looked up: the results directory, and the loaded study in it."""

    output: Path
    loaded: str | None

    def runs(self) -> list[Found]:
        """Every run directory, by study, step and seed."""
        return _below(self.output, "*/*/seed-*/*")

    def studies(self) -> list[str]:
        """The studies that have run directories."""
        return units.distinct(found.study for found in self.runs())


def given_run(text: str) -> Path | None:
    """The run, or the export, at a path that exists; None for a name. Raises ConfigError
    for a directory that several steps or seeds share.
    """
    path = Path(text)
    if not os.path.lexists(path):
        return None
    if not path.is_dir() or _is_run(path):
        return path
    below = next(filter(None, (_below(path, p) for p in PATTERNS)), [])
    return _one(below, f"RUN={text}") if below else path


def run(results: Results, text: str, variable: str = "RUN") -> Path:
    """The directory of the run that `text` names. Raises ConfigError."""
    known, label = results.runs(), f"{variable}={text}"
    if not known:
        none = f"no such run: none lies below {files.shown(results.output)}"
        raise _refusal(label, none)
    if text == NEWEST:
        ended = [found for found in known if CellDir(found.path).summary.exists()]
        for found in sorted(ended, key=_ended, reverse=True):
            if _state(found) == DONE:
                return found.path
        raise _refusal(label, f"none of these is finished\n{_listed(known)}")
    parts = text.strip("/").split("/")
    matching = _matching(results, known, parts) or _begun(known, text)
    if not matching:
        steps = _steps_of(results, parts)
        matching = [found for found in known if found[:2] in steps]
    if not matching:
        here = [found for found in known if found.study == results.loaded] or known
        raise _refusal(label, f"no such run; there are\n{_listed(here)}")
    return _one(matching, label)


def study_dir(results: Results, text: str, variable: str = "STUDY") -> Path:
    """The directory of the study that `text` names. Raises ConfigError."""
    for path in (results.output / text, Path(text)):
        if text and path.is_dir():
            return path
    known = results.studies()
    close = closest(text, known)
    hint = f"did you mean {close[0]}? " if close else ""
    there = ", ".join(map(shown, known)) or "no study"
    where = files.shown(results.output)
    cause = f"no such study; {hint}{where} holds {there}"
    raise _refusal(f"{variable}={text}", cause)


def side(results: Results, text: str, variable: str) -> Path:
    """The directory of the run, the step or the study that `text` names: STUDY,
    STUDY/STEP, STEP of the loaded study, or a run. Raises ConfigError.
    """
    for path in (Path(text), results.output / text):
        if _is_run(path) or any(_below(path, pattern) for pattern in PATTERNS[1:]):
            return path
    parts = text.strip("/").split("/")
    if not any(map(SEED_DIR.match, parts)):
        found = _steps_of(results, parts)
        if len(found) == 1:
            return results.output.joinpath(*found[0])
        if found:
            steps = "\n".join(f"  {shown('/'.join(each))}" for each in found[:LISTED])
            cause = f"names {len(found)} steps:\n{steps}"
            raise _refusal(f"{variable}={text}", cause)
    return run(results, text, variable)


def _steps_of(results: Results, parts: Sequence[str]) -> list[tuple[str, str]]:
    """(study, step) of STUDY/STEP, or of STEP in the loaded study."""
    known = results.runs()
    if len(parts) == 1:
        parts = (results.loaded or "", *parts)
    if len(parts) != 2:
        return []
    there = units.distinct((found.study, found.step) for found in known)
    studies = _meant(units.distinct(study for study, _ in there), parts[0])
    return [
        (study, step)
        for study in studies
        for step in _meant([s for of, s in there if of == study], parts[1])
    ]


def _matching(
    results: Results, known: Sequence[Found], parts: Sequence[str]
) -> list[Found]:
    """The runs that [STUDY/]STEP/seed-K[/HASH8] or a hash names."""
    if len(parts) == 1:
        begin = parts[0]
        long = len(begin) >= SHORTEST
        return [found for found in known if long and found.hash8.startswith(begin)]
    *before, seed = parts if SEED_DIR.match(parts[-1]) else parts[:-1]
    hash8 = "" if SEED_DIR.match(parts[-1]) else parts[-1]
    if not 1 <= len(before) <= 2:
        return []
    if len(before) == 1 and any(found.study == results.loaded for found in known):
        before = [results.loaded, *before]
    studies = units.distinct(found.study for found in known)
    if len(before) == 2:
        studies = _meant(studies, before[0])
    matching = []
    for study in studies:
        here = [found for found in known if found.study == study]
        steps = _meant(units.distinct(found.step for found in here), before[-1])
        matching += [
            found
            for found in here
            if (found.step in steps and found.seed == seed)
            and found.hash8.startswith(hash8)
        ]
    return matching


def _meant(known: Sequence[str], text: str) -> list[str]:
    """The names that `text` is, by number, whole or as far as it goes."""
    if text in known:
        return [text]
    if text.isdecimal():
        numbered = [(name, name.partition("-")[0]) for name in known]
        return [n for n, at in numbered if at.isdecimal() and int(at) == int(text)]
    return [name for name in known if text and name.startswith(text)]


def _begun(known: Sequence[Found], text: str) -> list[Found]:
    """The runs whose paths begin with `text`."""
    begin = os.path.abspath(text)
    return [f for f in known if os.path.abspath(f.path).startswith(begin)]


def _one(found: Sequence[Found], label: str) -> Path:
    """The newest finished run of one step and seed; the only run there, finished or
    not. Raises ConfigError for several steps or seeds.
    """
    if len(found) == 1:
        return found[0].path
    cells = units.distinct(each[:3] for each in found)
    if len(cells) > 1:
        raise _refusal(label, f"names {len(found)} runs:\n{_listed(found)}")
    done = [each for each in found if _state(each) == DONE]
    if not done:
        raise _refusal(label, f"none of these is finished\n{_listed(found)}")
    return max(done, key=_ended).path


def _below(folder: Path, pattern: str) -> list[Found]:
    found = []
    for path in sorted(folder.glob(pattern)):
        study, step, seed, hash8 = path.absolute().parts[-4:]
        if _is_run(path) and not study.startswith("."):
            found.append(Found(study, step, seed, hash8, path))
    return found


def _is_run(path: Path) -> bool:
    there = path.absolute()
    named = HASH_DIR.match(there.name) and SEED_DIR.match(there.parent.name)
    return bool(named) and there.is_dir()


def _state(found: Found) -> str:
    return whole_run.place_and_status(CellDir(found.path))[1].state


def _ended(found: Found) -> tuple[float, str]:
    """When its last attempt ended, and its hash; 0 for records that cannot be read:
    `_state` says that they are damaged.
    """
    try:
        rows = read.attempts(pointer.follow(CellDir(found.path)).dir.attempts)
    except (FileNotFoundError, RecordError):
        rows = []
    return rows[-1]["time"] if rows else 0.0, found.hash8


def _listed(found: Iterable[Found]) -> str:
    names = [shown(each.name) for each in found]
    more = [f"… and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return "\n".join(f"  {name}" for name in [*names[:LISTED], *more])


def _refusal(label: str, cause: str) -> ConfigError:
    return ConfigError([Finding(shown(label), 0, None, cause)])
