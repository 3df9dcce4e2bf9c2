"""Preregistration: what a study will decide and how, sealed before its first run.

`make prereg` writes it; the report compares what was done with it and prints
every deviation. It changes no verdict: a reader judges what a deviation means.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Iterable, Mapping, Sequence

from matrix import units
from matrix.evidence import sequential, tuning
from matrix.evidence.weigh import Evidence
from matrix.plan import stage as stages
from matrix.plan.cells import Plan
from matrix.plan.checks import PlanError
from matrix.plan.rerun import replaced
from matrix.plan.selection import selected
from matrix.results.run import Run, SEED_DIR
from matrix.results.selection import CONFIRM, ONE, SCREEN, SEQUENTIAL, TUNE, Terms
from matrix.settings import StudySettings
from records import sealed_record
from records.fields import MOMENT
from records.files import shown
from records.kinds import digest, fields, integer, listed, mapped, name, nullable
from records.kinds import number
from records.layout import RecordError

WHOLE, CONFIRMATION = "preregistration.json", "preregistration-confirm.json"
"""Of a study with all that it does, and of a confirmation after its screening."""
SCREENED = fields(
    {
        "arms": listed(name),
        "seeds": listed(integer(0)),
        "promote": integer(1),
        "named": listed(name),
        "learning_rates": mapped(number()),
    }
)
REGISTERED = fields(
    {
        "metric": name,
        "last_evals": integer(1),
        "smallest": nullable(number()),
        "alpha": number(0, 1),
        "control": name,
        "arms": listed(name),
        "aa": listed(name),
        "seeds": listed(integer(0)),
        "dataset": digest,
        "cells": mapped(digest),
        "time": MOMENT,
    },
    {
        "code": digest,
        "codes": mapped(digest),
        "design": name,
        "looks": nullable(listed(integer(2))),
        "pursue": nullable(name),
        "screening": nullable(SCREENED),
    },
)
"""code: of every step, as older versions wrote it; codes: by step."""
STOP = (
    "every run ends by its budget; no verdict before all seeds of all arms are run; "
    "no seed is added or left out; an invalid arm stays in the family with p = 1"
)
STOP_SEQUENTIAL = (
    "every run ends by its budget; judged at the looks alone, when all their runs are "
    "there; an arm stops as docs/evidence.md says for these looks, this level, smallest "
    "effect and what is pursued; an invalid arm stays in the family with p = 1"
)


@dataclass(frozen=True)
class Registration:
    """The preregistration of a study, and every deviation from it.

    `seal` is its sha256, None when it is damaged; `arms` are those announced.
    """

    path: Path
    seal: str | None
    arms: tuple[str, ...]
    deviations: tuple[str, ...]


def register(plan: Plan, confirmation: Plan | None = None) -> tuple[Path, str]:
    """Write the preregistration of a plan; returns where, and its seal.

    `confirmation` is what follows a plan that screens, of every arm that may be
    promoted. Raises PlanError when a run with one of the seeds exists; RecordError when
    the study is registered already.
    """
    settings, later = plan.settings, confirmation or plan
    if settings.stage == TUNE:
        raise PlanError("a tuning is never judged: preregister the study")
    whole = settings.stage != CONFIRM or settings.design == SEQUENTIAL
    path = plan.study_dir / (WHOLE if whole else CONFIRMATION)
    if path.exists():
        raise RecordError(path, "is there already: a study is registered once")
    seeds = {*settings.seed_list, *later.settings.seed_list}
    found = _results(plan.study_dir, sorted(seeds))
    if found:
        raise PlanError(
            f"{shown(found[0])} exists: a study is registered before its first run; choose "
            "fresh seeds, or another CONFIG_STUDY"
        )
    record = {**_record(later), "tuning": tuning.sealed(later)}
    if confirmation is not None:
        record |= {"screening": _screening(plan)}
        record["cells"] |= _cells(plan)
    return path, sealed_record.write(path, record)


def _results(study_dir: Path, seeds: Sequence[int]) -> list[Path]:
    """The run directories of these seeds, those that were replaced included."""
    found = []
    for path in [*sorted(study_dir.glob("*/seed-*/*")), *replaced(study_dir)]:
        seed = SEED_DIR.match(path.parent.name)
        if seed and int(seed[1]) in seeds and path.is_dir():
            found.append(path)
    return found


def _record(plan: Plan) -> dict[str, Any]:
    settings, chosen = plan.settings, selected(plan)
    cells = [*plan.reference, *plan.cells]
    first = next(cell for cell in cells if cell.control)
    names = ("GPT2_MAX_ITERS", "GPT2_MAX_TIME", "BUDGET_TIME")
    return {
        "study": settings.label,
        "design": settings.design,
        "stage": settings.stage,
        **_terms(chosen.terms, first.step),
        **_looks(settings),
        "arms": [s for s in chosen.steps if s not in (first.step, *plan.salted)],
        "aa": sorted(s for s in chosen.steps if s in plan.salted),
        "seeds": list(chosen.seeds),
        "stop": STOP if settings.sequence is None else STOP_SEQUENTIAL,
        "budget": {name: first.values[name] for name in names},
        "codes": {cell.step: cell.identity["code"] for cell in cells},
        "dataset": first.identity["dataset"],
        "cells": _cells(plan),
        "time": time.time(),
    }


def _cells(plan: Plan) -> dict[str, str]:
    cells = [*plan.reference, *plan.cells]
    return {f"{cell.step}/seed-{cell.seed}": cell.hash for cell in cells}


def _looks(settings: StudySettings) -> dict[str, Any]:
    """The looks, with the law by which they are judged."""
    looks = settings.sequence
    if looks is None:
        return {"looks": None, "pursue": None}
    laws = sequential.laws(looks.at)
    law = {"sequences": sequential.DRAWS, "generator_seed": sequential.SEED}
    nominal = list(laws.nominal(settings.alpha))
    return {
        "looks": list(looks.at),
        "pursue": looks.pursue,
        "law": {**law, "nominal_p": nominal},
    }


def _screening(plan: Plan) -> dict[str, Any]:
    """How the arms are chosen: arms, seeds, rates, how many and who by name."""
    arms = [s for s in units.distinct(c.step for c in plan.cells if not c.control)]
    arms = [step for step in arms if step not in plan.salted]
    rates = {cell.step: float(cell.values["LEARNING_RATE"]) for cell in plan.cells}
    return {
        "arms": arms,
        "seeds": list(plan.settings.seed_list),
        "promote": plan.settings.promote,
        "named": list(stages.named(plan.settings.named_arms, arms)),
        "learning_rates": rates,
    }


def _terms(terms: Terms, control: str) -> dict[str, Any]:
    return {
        "metric": terms.metric.name,
        "last_evals": terms.last_evals,
        "smallest": terms.smallest,
        "alpha": terms.alpha,
        "control": control,
    }


def announced(study_dir: Path, stage: str) -> tuple[str, ...]:
    """The arms that the stage was registered to judge; () when there is none to read,
    and where a screening chooses among them.
    """
    try:
        record, _ = _read(study_dir, stage)
    except RecordError:
        return ()
    if record is None or record.get("screening"):
        return ()
    return tuple(record["arms"])


def announced_seeds(study_dir: Path, stage: str) -> tuple[int, ...]:
    """The seeds of the stage's preregistration; () when there is none to read."""
    try:
        record, _ = _read(study_dir, stage)
    except RecordError:
        return ()
    return tuple(record["seeds"]) if record else ()


def compare(
    study_dir: Path, evidence: Evidence, runs: Iterable[Run]
) -> Registration | None:
    """The stage's preregistration and every deviation from it; None without one."""
    try:
        record, path = _read(study_dir, evidence.terms.stage)
    except RecordError as error:
        return Registration(error.path, None, (), (str(error),))
    if record is None:
        return None
    lines = []
    now = _terms(evidence.terms, evidence.control)
    lines += [
        f"{name}: registered {record[name]}, now {value}"
        for name, value in now.items()
        if record[name] != value
    ]
    lines += _design(record, evidence.terms)
    lines += _members(study_dir, record, evidence)
    lines += _runs(record, list(runs))
    former = [shown(path.relative_to(study_dir.parent)) for path in replaced(study_dir)]
    if former:
        lines.append(f"replaced by another run of the cell: {', '.join(former)}")
    return Registration(
        path, record[sealed_record.SEAL], tuple(record["arms"]), tuple(lines)
    )


def _read(study_dir: Path, stage: str) -> tuple[dict[str, Any] | None, Path]:
    """What speaks of the stage, and its path: a confirmation has its own record, or is
    part of the whole study's."""
    path = study_dir / CONFIRMATION
    if stage != CONFIRM or not path.exists():
        path = study_dir / WHOLE
    record = sealed_record.read(path, REGISTERED)
    if record is None or path.name == CONFIRMATION or stage == ONE:
        return record, path
    speaks = record.get("screening") or (stage == CONFIRM and record.get("looks"))
    return (record if speaks else None), path


def _design(record: Mapping[str, Any], terms: Terms) -> list[str]:
    """Other looks, another order of their seeds, another pursuit."""
    if terms.stage == SCREEN or "design" not in record:
        return []
    looks = terms.looks
    found = (None, None) if looks is None else (list(looks.at), looks.pursue)
    lines = [
        f"{name}: registered {record.get(name)}, now {value}"
        for name, value in zip(("looks", "pursue"), found)
        if record.get(name) != value
    ]
    if looks is not None and sorted(looks.seeds) == sorted(record["seeds"]):
        if list(looks.seeds) != record["seeds"]:
            lines.append("seeds: taken in another order than registered")
    return lines


def _members(
    study_dir: Path, record: Mapping[str, Any], evidence: Evidence
) -> list[str]:
    """Arms and seeds that were added or are gone."""
    screening = record.get("screening")
    seeds, aa = record["seeds"], record["aa"]
    if not screening:
        lines = _sets("arms", record["arms"], evidence.family)
    elif evidence.terms.stage == SCREEN:
        lines = _sets("arms", screening["arms"], evidence.family)
        seeds, aa = screening["seeds"], ()
    else:
        lines = _promoted(stages.read(study_dir), record, evidence.family)
    return [
        *lines,
        *_sets("A/A arms", aa, evidence.aa),
        *_sets("seeds", seeds, evidence.seeds),
    ]


def _promoted(
    promotion: stages.Promotion | None,
    record: Mapping[str, Any],
    family: Sequence[str],
) -> list[str]:
    """Where what is confirmed is not what the registered screening chose: the best of
    its ranking, as many as registered, and those named beforehand.
    """
    screening = record["screening"]
    if promotion is None:
        return ["arms are judged without the registered screening"]
    lines = _sets("seeds of the screening", screening["seeds"], promotion.seeds)
    lines += _sets("arms promoted by name", screening["named"], promotion.named)
    if promotion.ranked is not None:
        best = promotion.ranked[: screening["promote"]]
        lines += _sets(
            "promoted arms", {*best, *screening["named"]}, promotion.promoted
        )
    ranked_by = (record["metric"], record["last_evals"])
    if promotion.metric not in (None, ranked_by):
        lines.append(
            f"the screening ranked by {promotion.metric[0]}, mean of the last "
            f"{promotion.metric[1]}; registered {ranked_by[0]}, {ranked_by[1]}"
        )
    return lines + [
        f"arms not registered: {step}"
        for step in family
        if step not in screening["arms"]
    ]


def _sets(name: str, registered: Collection[Any], now: Collection[Any]) -> list[str]:
    """What was added to a list and what is gone from it."""
    added = [str(each) for each in now if each not in registered]
    gone = [str(each) for each in registered if each not in now]
    lines = [f"{name} not registered: {', '.join(added)}"] if added else []
    return lines + (
        [f"{name} registered and not there: {', '.join(gone)}"] * bool(gone)
    )


def _runs(record: dict[str, Any], runs: Sequence[Run]) -> list[str]:
    """Runs that are not the registered cells, and runs that came before."""
    lines = []
    codes = record.get("codes", {})
    for title, value, registered in (
        ("code", "code_hash", lambda step: codes.get(step) or record.get("code")),
        ("dataset", "dataset_sha256", lambda step: record["dataset"]),
    ):
        found = {(registered(run.step), run.value(value)) for run in runs}
        lines += [
            f"{title}: registered {then[:12]}, in runs {now[:12]}"
            for then, now in sorted(found, key=str)
            if then not in (None, now)
        ]
    cells = record["cells"]
    other = [
        run.run_dir
        for run in runs
        if cells.get(f"{run.step}/seed-{run.seed}")
        not in (None, run.value("cell_hash"))
    ]
    if other:
        lines.append(f"not the registered cells: {', '.join(other)}")
    early = [run.run_dir for run in runs if run.began < record["time"]]
    if early:
        lines.append(f"started before the registration: {', '.join(early)}")
    return lines
