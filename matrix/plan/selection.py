"""The selection that a plan makes: what every statement about its study is about."""

from pathlib import Path
from typing import Any, Mapping

from matrix.plan import stage
from matrix.plan.cells import Plan
from matrix.results.metrics import named
from matrix.results.selection import CONFIRM, SCREEN, Selection, Terms
from matrix.results.study import load
from matrix.settings import StudySettings, study_settings


def selected(plan: Plan) -> Selection:
    """The plan's cells, those it is compared with included, the control's first."""
    cells = sorted([*plan.reference, *plan.cells], key=lambda cell: not cell.control)
    helps = {cell.step: cell.help for cell in cells}
    return Selection(
        steps=tuple(helps),
        seeds=plan.settings.seed_list,
        hashes=frozenset(cell.hash for cell in cells),
        helps=helps,
        excluded=tuple((each.id, each.why) for each in plan.excluded),
        terms=terms_of(plan.settings),
        trial=plan.trial,
    )


def terms_of(settings: StudySettings) -> Terms:
    """What a configuration settles in advance."""
    return Terms(
        named(settings.metric),
        settings.last_evals,
        settings.smallest,
        settings.alpha,
        settings.stage,
        looks=settings.sequence if settings.stage == CONFIRM else None,
    )


def recorded(study_dir: Path, defaults: Mapping[str, Any]) -> Selection:
    """What lies in a study's directory, by the terms that its newest run recorded;
    `defaults` are the values of symbols that it did not know. Of a confirmation its
    own runs alone.

    Raises ReportError without a study there, RecordError for an edited promotion.
    """
    study = load(study_dir)
    mine = [run for run in study.counted.values() if not run.reused]
    if not study.counted:
        return Selection()
    newest = max(mine or study.counted.values(), key=lambda run: run.time)
    settings = study_settings({**defaults, **newest.config})
    terms, hashes = terms_of(stage.phase(settings, study_dir)), None
    if terms.stage == CONFIRM:
        hashes = frozenset(
            run.hash8 for run in study.runs if run.value("stage") != SCREEN
        )
    seeds = () if terms.looks is None else terms.looks.seeds
    return Selection(seeds=seeds, hashes=hashes, terms=terms)
