"""What a sequential study runs next: its screening, then what the next look needs."""

from dataclasses import replace

from matrix import units
from matrix.evidence import weigh
from matrix.evidence.gather import completed_terms
from matrix.evidence.related import related_arms
from matrix.evidence.weigh import Evidence
from matrix.plan.cells import Cell, Plan
from matrix.plan.checks import PlanError
from matrix.plan.selection import selected
from matrix.results.rows import make_rows
from matrix.results.run import DAMAGED, DIVERGED, find
from matrix.results.selection import SCREEN, SEQUENTIAL
from matrix.results.study import of_runs

KEPT = ("done", "running", DIVERGED, DAMAGED)
"""States of cells that stay in the plan though nothing needs them now."""


def due(plan: Plan) -> Plan:
    """The plan with the cells that its next look needs, and those that have run; as it
    is where the design is another or the study screens.
    """
    evidence = standing(plan)
    if evidence is None:
        return plan
    needed = evidence.progress.needed
    kept = [
        cell
        for cell in plan.cells
        if needed(cell.step, cell.seed) or cell.state in KEPT
    ]
    return replace(plan, cells=tuple(kept))


def standing(plan: Plan) -> Evidence | None:
    """The verdicts so far of a sequential study that confirms; None of other plans.

    Raises RecordError for an edited promotion, PlanError for other looks than those
    under which its runs started, ReportError for runs with fewer evaluations than the
    metric takes.
    """
    settings = plan.settings
    if settings.design != SEQUENTIAL or settings.stage == SCREEN:
        return None
    selection, place = selected(plan), plan.study_dir
    runs = find(place) if place.is_dir() else []
    study = of_runs(place.name, runs, selection)
    terms = completed_terms(selection.terms, plan.study_dir)
    rows = make_rows(study, selection)
    changed = weigh.other_looks(study.counted.values(), terms)
    if changed:
        raise PlanError(changed[0])
    related = related_arms(plan.study_dir, rows, terms)
    return weigh.weigh(study, rows, terms, related)


def unsettled(plan: Plan) -> list[Cell]:
    """The cells that a look, or a promotion, still waits for."""
    return [cell for cell in plan.cells if cell.state not in ("done", DIVERGED)]


def describe(plan: Plan) -> list[str]:
    """Where a sequential study stands, in a line or two."""
    settings = plan.settings
    if settings.design != SEQUENTIAL:
        return []
    if settings.stage == SCREEN:
        arms = {cell.step for cell in plan.cells if not cell.control}
        seeds = units.plural(len(settings.screening), "seed")
        most = units.plural(min(settings.promote, len(arms)), "arm")
        return [
            f"screening: {units.plural(len(arms), 'arm')} on {seeds}, no claims; "
            f"{most} and those of CONFIG_PROMOTE_NAMED go on with fresh seeds"
        ]
    evidence = standing(plan)
    progress = evidence.progress
    looks = ", ".join(map(str, progress.planned))
    if not evidence.family:
        return [f"looks at {looks} seeds: no arm is chosen that they could judge"]
    if progress.over:
        return [f"looks at {looks} seeds: decided after look {progress.judged}"]
    following = progress.planned[progress.judged]
    live = [step for step in evidence.family if progress.needs[step] == following]
    return [
        f"looks at {looks} seeds: look {progress.judged + 1} is next, of "
        f"{units.plural(len(live), 'arm')} and the control"
    ]
