"""Control runs of another study, read where they lie: BASELINE=results/OTHER.

A finished run is the planned cell itself when the parts of its identity are the
same: every identity symbol with the seed, code, dataset and, on the CPU, threads.
Nothing is copied (records/pointer.py).
"""

from pathlib import Path
from typing import Any, Iterable, Mapping

from kconf import config_py
from kconf.syntax import ConfigError
from matrix.checks import PlanError
from matrix.reasons import Subject, changed_parts
from records.cell import read_status
from records.layout import CellDir, RecordError, read_record


def find(study_dir: Path, step: str, subject: Subject, hash_: str) -> CellDir | None:
    """The finished control run of `study_dir` that is this very cell.

    None when that study has no finished control run of this seed. Raises PlanError,
    with what differs, when it has one that is another cell.
    """
    seed = subject.values["SEED"]
    others = []
    for run_json in sorted(study_dir.glob(f"*/seed-{seed}/*/run.json")):
        run = _control(run_json)
        if run is None:
            continue
        there = CellDir(run_json.parent)
        parts = _differences(there, run, subject, hash_)
        if not parts:
            return there
        others.append((run["provenance"]["time"], there.path, parts))
    if not others:
        return None
    _, path, parts = max(others)
    raise PlanError(
        f"BASELINE={study_dir}: {path} is another cell than {step} seed {seed}: "
        f"{'; '.join(parts)}. Only the same cell is reused: make the two alike, or "
        "leave BASELINE out"
    )


def _control(run_json: Path) -> dict[str, Any] | None:
    """run.json of a finished control run; None for any other."""
    run = read_record(run_json)
    there = CellDir(run_json.parent)
    control = run.get("cell", {}).get("control") is True
    return run if control and read_status(there).state == "done" else None


def _differences(
    there: CellDir, run: Mapping[str, Any], subject: Subject, hash_: str
) -> list[str]:
    """What makes a run another cell; empty when its identity is the same."""
    try:
        parts = changed_parts(run, config_py.read(there.config_py), subject)
    except ConfigError as error:
        raise RecordError(there.config_py, str(error)) from None
    told = {run["cell"].get("hash"), read_record(there.summary)["hash"]}
    if not parts and told != {hash_}:
        parts = [f"it records the hash {', '.join(map(str, told))}, planned {hash_}"]
    return parts


def require(study_dir: Path, own: Path, found: Iterable[bool]) -> None:
    """Raise PlanError for a baseline that can serve no cell: not a study, this study
    itself, or one without a finished control run of any of the seeds.
    """
    name = f"BASELINE={study_dir}"
    if not study_dir.is_dir():
        raise PlanError(f"{name}: no such directory; name a study, results/STUDY")
    if study_dir.resolve() == own.resolve():
        raise PlanError(f"{name} is this study itself: its runs count without BASELINE")
    if not any(found):
        raise PlanError(
            f"{name}: no finished control run with one of the seeds (*/seed-K/HASH8 "
            "with cell.control in run.json)"
        )
