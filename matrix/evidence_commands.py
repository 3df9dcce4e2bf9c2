"""`make prereg`, `make promote` and `make verdict`, on the plan of the configuration."""

import sys
from dataclasses import replace
from typing import Callable, Mapping

from matrix import units
from matrix.evidence import cost, preregistration, promotion
from matrix.evidence.gather import gather
from matrix.evidence.weigh import Evidence
from matrix.plan import checkout, stage
from matrix.plan.cells import Plan
from matrix.plan.checks import PlanError
from matrix.plan.selection import selected
from matrix.plan.stage import PROMOTION
from matrix.plan.steps import step_at
from matrix.report import registration_text, trial
from matrix.report.verdict_text import explain, in_width
from matrix.results.run import ReportError
from matrix.results.selection import SCREEN
from records.text_table import fitted


def prereg(plan: Plan, confirmation: Plan | None) -> int:
    """Write the preregistration; `confirmation` is what follows a screening."""
    for line in [*costs(plan, None), *checkout.uncommitted(plan.root)]:
        print(line)
    path, seal = preregistration.register(plan, confirmation)
    print(f"{path}\nsha256 {seal}")
    print("publish the hash; the report prints every deviation from this file")
    return 0


def promote(plan: Plan, environment: Mapping[str, str]) -> int:
    """Record the best arms of a screening and the seeds that chose them."""
    record = promotion.promote(plan, gather(plan.study_dir, selected(plan)))
    rows = []
    for place, arm in enumerate(record["ranking"], start=1):
        mark = "promoted" if arm["step"] in record["promoted"] else ""
        shown = "lost" if arm["lost"] else f"{arm['difference']:+.5f}"
        rows.append((f"{place}. {arm['step']}", shown, mark))
    print("\n".join(fitted(rows, right=(1,))))
    print(f"{plan.study_dir / PROMOTION}\nsha256 {record['sha256']}")
    print("next: STAGE=confirm make prereg, then STAGE=confirm make")
    return 0


def verdict(plan: Plan, environment: Mapping[str, str]) -> int:
    """Print the verdict on STEP=, or on every step; its family is the whole study."""
    if plan.settings.stage == SCREEN:
        raise PlanError(promotion.CLAIMS_NOTHING)
    report = gather(plan.study_dir, selected(plan))
    chosen = _chosen(report.evidence, environment.get("STEP", ""))
    for text in [*trial.sentences(plan.trial), *explain(report, chosen)]:
        print(text)
    for line in registration_text.lines(report):
        print(in_width(line))
    return 0


def _chosen(evidence: Evidence, name: str) -> list[str]:
    """The steps that STEP= names. Raises SettingsError for one without a verdict."""
    steps = [verdict.step for verdict in evidence.verdicts]
    if not steps:
        raise PlanError(f"{evidence.control} is the only step: nothing to compare")
    return [steps[step_at(steps, name, None)]] if name else steps


def costs(plan: Plan, hours: float | None) -> list[str]:
    """What a sequential study takes and finds, in words; `hours` of devices per run."""
    settings = plan.settings
    gpus = any(cell.device == "cuda" for cell in plan.cells)
    if settings.sequence is None:
        return []
    controls = {cell.step for cell in [*plan.reference, *plan.cells] if cell.control}
    steps = units.distinct(cell.step for cell in plan.cells)
    arms = [s for s in steps if s not in controls and s not in plan.salted]
    if not arms:
        return []
    named = 0
    if settings.stage == SCREEN:
        named = len(stage.named(settings.named_arms, arms))
    elif settings.screening:  # they were chosen: the look's cost alone is ahead
        settings = replace(settings, screen_seeds="")
    found = cost.cost(settings, len(arms), named, len(plan.salted))
    return cost.lines(found, settings, hours, "GPU-hours" if gpus else "hours")


COMMANDS: dict[str, Callable[[Plan, Mapping[str, str]], int]] = {
    "promote": promote,
    "verdict": verdict,
}


def perform(name: str, plan: Plan, environment: Mapping[str, str]) -> int:
    """Run one of COMMANDS; 1, with the cause, where there is nothing to report."""
    try:
        return COMMANDS[name](plan, environment)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
