"""Arms of other studies that are held against the same control runs.

Two studies over one control are one family in two halves: judged apart they make a
false claim in 0.29 of cases. So the arms of the study that the control is reused from,
and of every study beside this one that reuses runs of it, enter Holm's family with
p = 1. What shows that are the pointers (records/pointer.py): a study in another
OUTPUT_DIR that trained the same control again is not seen, nor is one that was moved.
"""

from pathlib import Path
from typing import Mapping, Sequence

from matrix.results.config_differences import SALT, differing
from matrix.results.rows import Row
from matrix.results.run import Run, find
from matrix.results.selection import SCREEN, Terms
from records import pointer
from records.files import shown
from records.layout import CellDir, RecordError


def related_arms(study_dir: Path, rows: Sequence[Row], terms: Terms) -> tuple[str, ...]:
    """STUDY/STEP of every such arm, by study and step; none in a screening.

    An arm is a step whose run of a seed differs from the control's in nothing but what
    the step changes, on the same data; trials, screenings and A/A arms are none.
    """
    if terms.stage == SCREEN:
        return ()
    control = rows[0].runs
    found = []
    for other in _studies(study_dir, control):
        steps: dict[str, None] = {}
        for run in find(other):
            if run.seed in control and _is_arm(run, control[run.seed]):
                if not any(_same(run, row.runs.get(run.seed)) for row in rows):
                    steps[run.step] = None
        found += [f"{shown(other.name)}/{step}" for step in steps]
    return tuple(found)


def _studies(study_dir: Path, control: Mapping[int, Run]) -> list[Path]:
    """Where the control's runs lie, and who else in this output points there."""
    here = study_dir.resolve()
    sources = {
        (here / run.run_dir).resolve().parents[2]
        for run in control.values()
        if run.reused
    }
    homes = sources | {here}
    for path in here.parent.glob(f"*/*/seed-*/*/{pointer.NAME}"):
        try:
            place = pointer.follow(CellDir(path.parent))
        except RecordError:  # its own report says what is wrong with it
            continue
        if place.reused and place.dir.path.resolve().parents[2] in homes:
            sources.add(path.parents[3])
    return sorted(sources - {here})


def _is_arm(run: Run, control: Run) -> bool:
    changes = run.value("changes")
    if changes is None or run.value("control") or list(changes) == [SALT]:
        return False
    if run.value("stage") == SCREEN or not run.documents:
        return False
    same_data = run.value("dataset_sha256") == control.value("dataset_sha256")
    explained = {*changes, *(control.value("changes") or ())}
    return same_data and set(differing(run, control)) <= explained


def _same(run: Run, own: Run | None) -> bool:
    """Whether an arm of this study is that one again."""
    return own is not None and not any(differing(run, own))
