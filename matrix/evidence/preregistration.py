"""Preregistration: what a study will decide and how, sealed before its first run.

`make prereg` writes it; the report compares what was done with it and prints
every deviation. It changes no verdict: a reader judges what a deviation means.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

from matrix.evidence.weigh import Evidence
from matrix.plan.cells import Plan
from matrix.plan.checks import PlanError
from matrix.plan.rerun import replaced
from matrix.plan.selection import selected
from matrix.results.config_differences import SALT
from matrix.results.run import Run, SEED_DIR
from matrix.results.selection import CONFIRM, SCREEN, Terms
from records import sealed_record
from records.fields import MOMENT
from records.files import shown
from records.kinds import digest, fields, integer, listed, mapped, name, nullable
from records.kinds import number
from records.layout import RecordError

NAMES = {"one": "preregistration.json", CONFIRM: "preregistration-confirm.json"}
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
    {"code": digest, "codes": mapped(digest)},
)
"""code: of every step, as older versions wrote it; codes: by step."""
STOP = (
    "every run ends by its budget; no verdict before all seeds of all arms are run; "
    "no seed is added or left out; an invalid arm stays in the family with p = 1"
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


def register(plan: Plan) -> tuple[Path, str]:
    """Write the preregistration of a plan; returns where, and its seal.

    Raises PlanError in a screening, which claims nothing, and when a run with one of
    its seeds exists; RecordError when the study is registered already.
    """
    settings = plan.settings
    if settings.stage == SCREEN:
        raise PlanError("a screening claims nothing: preregister STAGE=confirm")
    path = plan.study_dir / NAMES[settings.stage]
    if path.exists():
        raise RecordError(path, "is there already: a study is registered once")
    found = _results(plan.study_dir, settings.seed_list)
    if found:
        raise PlanError(
            f"{shown(found[0])} exists: a study is registered before its first run; choose "
            "fresh seeds, or another CONFIG_STUDY"
        )
    return path, sealed_record.write(path, _record(plan))


def _results(study_dir: Path, seeds: Sequence[int]) -> list[Path]:
    """The run directories of these seeds, those that were replaced included."""
    found = []
    for path in [*sorted(study_dir.glob("*/seed-*/*")), *replaced(study_dir)]:
        seed = SEED_DIR.match(path.parent.name)
        if seed and int(seed[1]) in seeds and path.is_dir():
            found.append(path)
    return found


def _record(plan: Plan) -> dict[str, Any]:
    cells, chosen = [*plan.reference, *plan.cells], selected(plan)
    first = next(cell for cell in cells if cell.control)
    salted = {cell.step for cell in cells if list(cell.changes) == [SALT]}
    names = ("GPT2_MAX_ITERS", "GPT2_MAX_TIME", "BUDGET_TIME")
    return {
        "study": plan.settings.label,
        "stage": plan.settings.stage,
        **_terms(chosen.terms, first.step),
        "arms": [s for s in chosen.steps if s != first.step and s not in salted],
        "aa": sorted(salted),
        "seeds": list(chosen.seeds),
        "stop": STOP,
        "budget": {name: first.values[name] for name in names},
        "codes": {cell.step: cell.identity["code"] for cell in cells},
        "dataset": first.identity["dataset"],
        "cells": {f"{cell.step}/seed-{cell.seed}": cell.hash for cell in cells},
        "time": time.time(),
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
    """The arms of the stage's preregistration; () when there is none to read."""
    try:
        record = _read(study_dir, stage)
    except RecordError:
        return ()
    return tuple(record["arms"]) if record else ()


def compare(
    study_dir: Path, evidence: Evidence, runs: Iterable[Run]
) -> Registration | None:
    """The stage's preregistration and every deviation from it; None without one."""
    stage = evidence.terms.stage
    try:
        record = _read(study_dir, stage)
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
    lines += _sets("arms", record["arms"], evidence.family)
    lines += _sets("A/A arms", record["aa"], evidence.aa)
    lines += _sets("seeds", record["seeds"], evidence.seeds)
    lines += _runs(record, list(runs))
    former = [shown(path.relative_to(study_dir.parent)) for path in replaced(study_dir)]
    if former:
        lines.append(f"replaced by another run of the cell: {', '.join(former)}")
    path = study_dir / NAMES[stage]
    return Registration(
        path, record[sealed_record.SEAL], tuple(record["arms"]), tuple(lines)
    )


def _read(study_dir: Path, stage: str) -> dict[str, Any] | None:
    return (
        sealed_record.read(study_dir / NAMES[stage], REGISTERED)
        if stage in NAMES
        else None
    )


def _sets(name: str, registered: Sequence[Any], now: Sequence[Any]) -> list[str]:
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
    for name, value, registered in (
        ("code", "code_hash", lambda step: codes.get(step) or record.get("code")),
        ("dataset", "dataset_sha256", lambda step: record["dataset"]),
    ):
        found = {(registered(run.step), run.value(value)) for run in runs}
        lines += [
            f"{name}: registered {then[:12]}, in runs {now[:12]}"
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
