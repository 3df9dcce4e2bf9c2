"""Control runs of another study, read where they lie: BASELINE=results/OTHER.

A finished run is the planned cell itself when the parts of its identity are the
same: every identity symbol with the seed, code, dataset and, on the CPU, threads.
Nothing is copied (records/pointer.py).
"""

from pathlib import Path
from typing import Iterable, Sequence

from matrix.plan.checks import PlanError
from matrix.plan.reasons import Subject, changed_parts
from matrix.results import whole_run
from matrix.results.whole_run import Whole
from records.layout import CellDir, RecordError


def find(study_dir: Path, step: str, subject: Subject, hash_: str) -> CellDir | None:
    """The finished control run of `study_dir` that is this very cell.

    None when that study has no finished control run of this seed; a damaged one is
    none. Raises PlanError, with what differs, when it has one that is another cell.
    """
    others = []
    for found in _controls(study_dir, subject.values["SEED"])[0]:
        parts = _differences(found, subject, hash_)
        if not parts:
            return found.cell.dir
        others.append((found.run["provenance"]["time"], found.cell.dir.path, parts))
    if not others:
        return None
    _, path, parts = max(others)
    raise PlanError(
        f"BASELINE={study_dir}: {path} is another cell than {step} seed {seed(path)}: "
        f"{'; '.join(parts)}. Only the same cell is reused: make the two alike, or "
        "leave BASELINE out"
    )


def seed(path: Path) -> str:
    """The seed of a run directory, by its name."""
    return path.parent.name.removeprefix("seed-")


def damaged(study_dir: Path, seeds: Iterable[int]) -> list[str]:
    """A line per run of these seeds that cannot be read, and so serves no cell."""
    lines = [line for number in seeds for line in _controls(study_dir, number)[1]]
    return [f"BASELINE={study_dir}: left out, {line}" for line in lines]


def _controls(study_dir: Path, number: int) -> tuple[list[Whole], list[str]]:
    """The finished control runs of a seed, and what is wrong with the damaged runs."""
    controls, lines = [], []
    for run_json in sorted(study_dir.glob(f"*/seed-{number}/*/run.json")):
        try:
            found = whole_run.read(CellDir(run_json.parent))
        except RecordError as error:
            lines.append(str(error))
            continue
        if found.run["cell"].get("control") and found.cell.state == whole_run.DONE:
            controls.append(found)
    return controls, lines


def _differences(found: Whole, subject: Subject, hash_: str) -> list[str]:
    """What makes a run another cell; empty when its identity is the same."""
    parts = changed_parts(found.run, found.config, subject)
    if not parts and found.run["cell"]["hash"] != hash_:
        told = found.run["cell"]["hash"]
        parts = [f"it records the hash {told}, planned {hash_}"]
    return parts


def require(
    study_dir: Path, own: Path, found: Iterable[bool], lines: Sequence[str]
) -> None:
    """Raise PlanError for a baseline that can serve no cell: not a study, this study
    itself, or one without a finished control run of any of the seeds. `lines` tell of
    damaged ones.
    """
    name = f"BASELINE={study_dir}"
    if not study_dir.is_dir():
        raise PlanError(f"{name}: no such directory; name a study, results/STUDY")
    if study_dir.resolve() == own.resolve():
        raise PlanError(f"{name} is this study itself: its runs count without BASELINE")
    if not any(found):
        raise PlanError(
            f"{name}: no finished control run with one of the seeds (*/seed-K/HASH8 "
            "with cell.control in run.json)" + "".join(f"; {line}" for line in lines)
        )
