"""`make estimate`: time and energy of what is still to be run, cell by cell.

A cell costs what finished cells of its own step cost, else by FLOPs what other
cells on as many of the same kind of device with as many threads took: of the study, else of
any study in the results directory. Training that was already done is left out.
Where no cell has finished, nothing is guessed.
"""

from dataclasses import dataclass
from typing import Mapping, Sequence

from kconf.budget import tokens_per_step
from matrix import units
from matrix.plan import forecast
from matrix.plan.cells import Cell, Plan
from matrix.plan.forecast import Measured
from matrix.plan.model_facts import Facts
from matrix.results.energy import mean_power
from records import checkpoints
from records.cell import read_cell
from records.layout import RecordError
from records.text_table import fitted

UNKNOWN = "no cell on such a device has finished on this host: run one first"


@dataclass(frozen=True)
class Estimate:
    """Of one cell: seconds and joules still to be spent, None while unknown."""

    cell: Cell
    seconds: float | None
    joules: float | None
    basis: str


def estimates(plan: Plan, facts: Mapping[str, Facts]) -> list[Estimate]:
    """An estimate for every pending cell; `facts` by forecast.facts_key."""
    own, _ = forecast.finished_here(plan.study_dir)
    others: list[Measured] = []
    for study in sorted(plan.output.glob("[!.]*")):
        if study != plan.study_dir:
            others += forecast.finished_here(study)[0]
    return [_estimate(cell, facts, own, others) for cell in plan.pending]


def _estimate(
    cell: Cell,
    facts: Mapping[str, Facts],
    own: Sequence[Measured],
    others: Sequence[Measured],
) -> Estimate:
    steps = [record for record in own if record.step == cell.step]
    sources = (
        (steps, "of this step"),
        (own, "of this study, by FLOPs"),
        (others, "of other studies, by FLOPs"),
    )
    for records, words in sources:
        alike = [record for record in records if record.as_fast_as(cell)]
        if alike:
            break
    else:
        return Estimate(cell, None, None, UNKNOWN)
    per_token = facts[forecast.facts_key(cell)]["flops_per_token"]
    tokens = tokens_per_step(cell.values) * _steps_left(cell)
    spent, flops = sum(r.seconds for r in alike), sum(r.flops for r in alike)
    seconds = tokens * per_token * spent / flops
    if cell.values["BUDGET_TIME"]:
        seconds = min(seconds, cell.values["GPT2_MAX_TIME"])
    watts = [
        w
        for w in (mean_power(record.path / "gpu.jsonl") for record in alike)
        if w is not None
    ]
    joules = seconds * sum(watts) / len(watts) if watts else None
    return Estimate(
        cell, seconds, joules, f"{units.plural(len(alike), 'finished cell')} {words}"
    )


def _steps_left(cell: Cell) -> int:
    """Steps to be taken; a cell goes on from its newest intact checkpoint."""
    saved = checkpoints.newest_intact(cell.dir.checkpoint_dir)
    done = checkpoints.step_of(saved) if saved else 0
    if cell.state == "running":
        done = _reached(cell)
    return max(cell.values["GPT2_MAX_ITERS"] - done, 0)


def _reached(cell: Cell) -> int:
    """Steps that the rows of a running cell show; none while they cannot be read."""
    try:
        return read_cell(cell.dir.path).step
    except RecordError:  # a row was damaged since the plan was made
        return 0


def text(plan: Plan, found: Sequence[Estimate]) -> str:
    """The estimates as a table, and their sum over the cells that run at once."""
    if not found:
        return "nothing is pending"
    rows = [("cell", "time", "energy", "from")]
    for one in found:
        time, energy = units.duration(one.seconds), kilojoules(one.joules)
        rows.append((one.cell.name, time, energy, one.basis))
    lines = fitted(rows, words=True)
    known = [one for one in found if one.seconds is not None]
    jobs = min(plan.jobs, len(found))
    total = sum(one.seconds for one in known) / jobs
    joules = [one.joules for one in known if one.joules is not None]
    energy = f", {kilojoules(sum(joules))}" if joules else ""
    lines += ["", f"{units.duration(total)} with {jobs} at once{energy}"]
    for missing, what in (
        (len(found) - len(known), "without an estimate"),
        (len(known) - len(joules), "without a measured power"),
    ):
        if missing:
            lines.append(f"{units.plural(missing, 'cell')} {what}: not in the sum")
    return "\n".join(lines)


def kilojoules(joules: float | None) -> str:
    """Joules as 812.3 kJ."""
    return units.DASH if joules is None else f"{joules / 1000:,.1f} kJ"
