"""`make sync`: what the mirrors have not sent yet, and the verdicts as tags."""

from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from matrix.evidence import gather
from matrix.plan.selection import recorded
from matrix.results import whole_run
from matrix.results.run import HASH_DIR, ReportError
from matrix.results.study import load
from matrix.trackers.session import CURRENT, Session, state
from matrix.trackers.target import Target, TrackerError
from records import pointer
from records.files import shown
from records.layout import CellDir, RecordError
from records.lease import is_held

CONTROL = "control"


def sync(
    study_dir: Path,
    targets: Sequence[Target],
    tags: Mapping[str, Sequence[str]],
    say: Callable[[str], None] = print,
    begin: Callable[..., Session] = Session,
) -> int:
    """Mirror every cell of a study that a tracker does not hold as it is.

    `tags` by run directory, relative to the study. Returns how many cells failed;
    raises ReportError when there is no such study.
    """
    if not study_dir.is_dir():
        raise ReportError(f"{study_dir}: no such study")
    failed = 0
    for path in sorted(study_dir.glob("*/seed-*/*")):
        if not HASH_DIR.match(path.name):
            continue
        name = shown(path.relative_to(study_dir).as_posix())
        for target in targets:
            try:
                told = _mirror(begin(path, target, tags.get(name, ()), live=False))
            except (TrackerError, RecordError) as error:
                failed += 1
                told = f"failed: {error}"
            if told:
                say(f"{target.tracker:<8} {name}  {told}")
    return failed


def _mirror(session: Session) -> str:
    """Send what is missing of a cell; what was done, "" for one that another study
    mirrors. Raises TrackerError, and RecordError for records that are damaged.
    """
    if pointer.follow(CellDir(session.path)).reused:
        return ""
    if is_held(session.path / "lease"):
        return "is running: its own mirror goes on"
    if _is_current(session):
        return "is there already"
    whole_run.read(CellDir(session.path))
    session.end()
    return f"{session.rows} rows"


def _is_current(session: Session) -> bool:
    """Whether the last mirror sent everything there will be, to the same place."""
    known = state(session.path, session.target.tracker)
    wanted = {**session.target.place, "state": CURRENT, "tags": list(session.tags)}
    return all(known.get(key) == value for key, value in wanted.items())


def verdict_tags(study_dir: Path, defaults: Mapping[str, Any]) -> dict[str, list[str]]:
    """{run directory: tags} of the runs that a verdict stands on.

    The control's runs are tagged as such, an arm's with the verdict's word, by the
    terms that the study's newest run recorded; `defaults` are the values of symbols
    that it did not know. A study without verdicts has no tags.
    """
    study = load(study_dir)
    if not study.counted:
        return {}
    try:
        report = gather.gather(study_dir, recorded(study_dir, defaults))
    except ReportError:  # too few evaluations: then there is no verdict either
        return {}
    found: dict[str, list[str]] = {}
    for row in report.rows:
        verdict = report.evidence.of(row.step)
        if verdict is None and row.step != report.evidence.control:
            continue
        word = verdict.outcome if verdict else CONTROL
        found |= {run.run_dir: [word] for run in row.runs.values()}
    return found
