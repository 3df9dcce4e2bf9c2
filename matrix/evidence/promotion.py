"""`make promote`: rank the arms of a screening and record the best few."""

import time
from typing import Any

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import INVALID, Verdict
from matrix.evidence.weigh import ranking
from matrix.plan import stage
from matrix.plan.cells import Plan
from matrix.plan.checks import PlanError
from matrix.plan.stage import PROMOTION, fresh_seeds
from matrix.results.selection import CONFIRM, SCREEN
from records import sealed_record

CLAIMS_NOTHING = (
    "a screening ranks the arms and claims nothing about any of them: `make report` "
    "shows the ranking, the promoted are judged on fresh seeds"
)


def promote(plan: Plan, report: Report) -> dict[str, Any]:
    """Rank the arms and write promotion.json; returns it. Promoted are the best
    CONFIG_PROMOTE and those of CONFIG_PROMOTE_NAMED.

    Arms with lost runs are ranked nowhere and listed. Raises PlanError outside of
    the screen stage, when cells are still to run, when there is nothing to promote
    and when a confirmation has begun; RecordError when it was done before.
    """
    settings = plan.settings
    if settings.stage != SCREEN:
        raise PlanError("only a screening promotes: STAGE=screen make promote")
    still = ("missing", "new", "running", "interrupted", "damaged")
    waiting = [cell for cell in report.study.open if cell.state in still]
    if waiting:
        count = units.plural(len(waiting), "cell")
        raise PlanError(
            f"{count} of the screening did not run yet, or cannot be read: STAGE=screen "
            "make plan"
        )
    begun = sorted({run.seed for run in report.study.runs} & fresh_seeds(settings))
    if begun:
        raise PlanError(
            f"seeds {units.numbers_in(begun)} of CONFIG_CONFIRM_SEEDS ran already: "
            "who is promoted must not depend on them"
        )
    confirmed = {r.seed for r in report.study.runs if r.value("stage") == CONFIRM}
    if confirmed:
        raise PlanError(
            f"seeds {units.numbers_in(confirmed)} of a confirmation ran already: a study "
            "is confirmed once; repeat it as another CONFIG_STUDY"
        )
    evidence = report.evidence
    ranked = ranking(evidence)
    sound = [verdict.step for verdict in ranked if verdict.outcome != INVALID]
    if not sound:
        raise PlanError("no arm of the screening finished all its runs")
    arms = stage.named(plan.settings.named_arms, evidence.family)
    record = {
        "study": report.study.name,
        "metric": evidence.terms.metric.name,
        "last_evals": evidence.terms.last_evals,
        "control": evidence.control,
        "seeds": sorted({run.seed for run in report.study.runs}),
        "ranking": [_ranked(report, verdict) for verdict in ranked],
        "named": list(arms),
        "promoted": units.distinct([*sound[: settings.promote], *arms]),
        "time": time.time(),
    }
    return {
        **record,
        sealed_record.SEAL: sealed_record.write(plan.study_dir / PROMOTION, record),
    }


def _ranked(report: Report, verdict: Verdict) -> dict[str, Any]:
    """One arm of the ranking, with the runs that it stands on."""
    d = list(verdict.differences.values())
    row = next((row for row in report.rows if row.step == verdict.step), None)
    return {
        "step": verdict.step,
        "difference": sum(d) / len(d) if d else None,
        "differences": {str(seed): x for seed, x in verdict.differences.items()},
        "lost": list(verdict.reasons) if verdict.outcome == INVALID else [],
        "runs": [run.run_dir for run in row.runs.values()] if row else [],
    }
