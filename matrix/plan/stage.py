"""The stage of a study: which steps and seeds it has, and which seeds are used up.

Screen, then confirm: many arms on few seeds to rank them, the best few on fresh
seeds to judge them. The promotion that joins the two names the arms and every
seed that had a part in choosing them. It is written once, and a run remembers the
stage it ran in, so that neither a changed configuration nor a deleted promotion
turns a screening seed into a fresh one.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Collection, Mapping, Sequence

from matrix import units
from matrix.plan.checks import PlanError
from matrix.plan.steps import Step, step_at
from matrix.results.config_differences import SALT
from matrix.results.selection import CONFIRM, FIXED, SCREEN, SEQUENTIAL
from matrix.settings import StudySettings
from records import read as records
from records import sealed_record
from records.kinds import fields, integer, listed, name
from records.layout import RecordError

PROMOTION = "promotion.json"


PROMOTED = fields(
    {"control": name, "promoted": listed(name), "seeds": listed(integer(0))},
    {
        "named": listed(name),
        "metric": name,
        "last_evals": integer(1),
        "ranking": listed(fields({"step": name, "lost": listed(name)})),
    },
)


@dataclass(frozen=True)
class Promotion:
    """What a screening chose: the arms, those of them that were named beforehand, and
    the seeds that have had their say; `ranked` are the arms that lost no run, the best
    first, by `metric`, None where a record does not say.
    """

    control: str
    promoted: tuple[str, ...]
    named: tuple[str, ...]
    seeds: frozenset[int]
    seal: str
    ranked: tuple[str, ...] | None = None
    metric: tuple[str, int] | None = None


def read(study_dir: Path) -> Promotion | None:
    """The study's promotion, if it has one. Raises RecordError for an edited one."""
    record = sealed_record.read(study_dir / PROMOTION, PROMOTED)
    if record is None:
        return None
    return Promotion(
        record["control"],
        tuple(record["promoted"]),
        tuple(record.get("named", ())),
        frozenset(record["seeds"]),
        record[sealed_record.SEAL],
        *_ranking(record),
    )


def _ranking(
    record: Mapping[str, Any],
) -> tuple[tuple[str, ...] | None, tuple[str, int] | None]:
    """The sound arms in their order, and the metric that ranked them."""
    if not {"ranking", "metric", "last_evals"} <= record.keys():
        return None, None
    sound = [arm["step"] for arm in record["ranking"] if not arm["lost"]]
    return tuple(sound), (record["metric"], record["last_evals"])


def phase(
    settings: StudySettings, study_dir: Path, everyone: bool = False
) -> StudySettings:
    """The settings with the stage that a sequential study is in: the screening, while
    it has seeds and nothing is promoted, then the confirmation; `everyone`, the
    confirmation of every design that has one.

    Raises RecordError for an edited promotion.
    """
    if everyone and settings.design != FIXED:
        return replace(settings, stage=CONFIRM)
    if settings.design != SEQUENTIAL:
        return settings
    screens = bool(settings.screening) and read(study_dir) is None
    return replace(settings, stage=SCREEN if screens else CONFIRM)


def restrict(
    steps: Sequence[Step],
    settings: StudySettings,
    output: Path,
    overrides: Collection[str],
    everyone: bool = False,
) -> list[Step]:
    """The steps of the stage: all of them, or after a screening the promoted ones,
    the control and the A/A arms; `everyone`, whoever may be promoted.

    overrides: the symbols set for this command only. Raises PlanError when the
    confirm stage has no promotion, another control or an arm that was not promoted,
    or a seed that is not fresh, and for other seeds or looks than those of a sequential
    study; RecordError for an edited promotion.
    """
    study_dir = output / settings.label
    if settings.design == SEQUENTIAL and "SEEDS" in overrides:
        raise PlanError(
            "a sequential study takes CONFIG_SCREEN_SEEDS and CONFIG_CONFIRM_SEEDS, not "
            "SEEDS="
        )
    if settings.stage == SCREEN and settings.steps in (None, "all"):
        named(settings.named_arms, [s.id for s in steps if _competes(s)])
    if settings.stage == SCREEN and settings.design == SEQUENTIAL:
        return [step for step in steps if step.symbols != {SALT}]
    if settings.stage != CONFIRM or everyone:
        return list(steps)
    if "SEEDS" in overrides:
        raise PlanError("the confirm stage takes CONFIG_CONFIRM_SEEDS, not SEEDS=")
    promotion = read(study_dir)
    if promotion is None:
        if settings.design != SEQUENTIAL:
            raise PlanError(
                f"{study_dir / PROMOTION} is not there: STAGE=screen make, then "
                "STAGE=screen make promote; only what a screening promoted is confirmed"
            )
        require_fresh(settings, study_dir, frozenset())
        return list(steps)
    require_fresh(settings, study_dir, promotion.seeds)
    control = next(step.id for step in steps if step.control)
    if control != promotion.control:
        raise PlanError(
            f"the screening compared with {promotion.control}, CONFIG_CONTROL_STEP "
            f"is {control}"
        )
    known = {step.id for step in steps}
    gone = [step for step in promotion.promoted if step not in known]
    if gone and settings.steps in (None, "all"):
        raise PlanError(f"promoted and no step of this study any more: {gone[0]}")
    kept = {control, *promotion.promoted}
    kept |= {step.id for step in steps if step.symbols == {SALT}}
    others = [step.id for step in steps if step.selected and step.id not in kept]
    chosen = settings.steps not in (None, "all")
    if others and chosen and settings.design != SEQUENTIAL:
        raise PlanError(
            f"{others[0]} was not promoted: only promoted arms are confirmed"
        )
    return [
        replace(step, selected=True) if step.id == control else step
        for step in steps
        if step.id in kept
    ]


def _competes(step: Step) -> bool:
    """Whether a step is an arm that a screening may promote."""
    return not step.control and step.symbols != {SALT}


def named(names: Sequence[str], arms: Sequence[str]) -> tuple[str, ...]:
    """The arms that CONFIG_PROMOTE_NAMED names by number or name, each once. Raises
    SettingsError for one that is none of them.
    """
    found = [arms[step_at(arms, name, "PROMOTE_NAMED")] for name in names]
    return tuple(units.distinct(found))


def require_fresh(
    settings: StudySettings, study_dir: Path, screened: Collection[int]
) -> None:
    """Raise PlanError for a seed of the confirm stage that was used before.

    Used are the seeds of the screening, and those of any run directory of this
    study that another stage left.
    """
    used = set(screened)
    for path in study_dir.glob("*/seed-*/*/run.json"):
        seed = re.fullmatch(r"seed-([0-9]+)", path.parts[-3])
        if seed and int(seed[1]) in fresh_seeds(settings):
            used |= set() if _confirms(path) else {int(seed[1])}
    again = sorted(used & fresh_seeds(settings))
    if again:
        raise PlanError(
            f"CONFIG_CONFIRM_SEEDS={settings.confirm_seeds}: seeds "
            f"{units.numbers_in(again)} were used before the confirmation; choose "
            f"others ({max(used) + 1}-{max(used) + len(fresh_seeds(settings))} are free)"
        )


def _confirms(run_json: Path) -> bool:
    """Whether a run is one of the confirm stage; a damaged one is as if missing."""
    try:
        return records.run(run_json)["cell"].get("stage") == CONFIRM
    except (FileNotFoundError, RecordError):
        return True


def fresh_seeds(settings: StudySettings) -> set[int]:
    """The seeds of the confirm stage, whatever the stage is now."""
    return set(settings.confirming)
