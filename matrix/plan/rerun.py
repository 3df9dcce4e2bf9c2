"""`make continue` and `make rerun`: what of a plan runs, and what makes room for it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Callable, Mapping

from kconf.overrides import on_command_line, one_shots
from matrix.plan.cells import Cell, Plan
from matrix.plan.checks import PlanError
from records.cell import DAMAGED

REPLACED = ".replaced"
"""Below the results directory: runs that another run took the place of."""
CHOICES = {
    "RA_MLA_ABLATION_STEPS": "STEPS",
    "MATRIX_ARMS": "ARMS",
    "SEEDS": "SEEDS",
}
"""Symbols by which a rerun may be narrowed, and their variables."""
EVERYTHING = "ALL"
"""ALL=1: a rerun of every finished cell of the plan."""


def only_started(plan: Plan) -> Plan:
    """The plan without the cells that never ran or that run now."""
    return replace(plan, skipped=frozenset({"new", "running"}))


def replaced_by_new_runs(plan: Plan) -> Plan:
    """The plan with its done, diverged and damaged cells to be run again, once `make_room` has
    moved their directories. Control runs of another study stay where they are and
    count. Raises PlanError where nothing is done.
    """
    settled = [
        cell
        for cell in plan.cells
        if cell.state in ("done", "diverged", DAMAGED) and not cell.reused
    ]
    if not settled:
        raise PlanError("none of these cells is done: make runs them")
    cells = [
        (
            replace(cell, state="new", reason=f"run again, was {cell.state}")
            if cell in settled
            else cell
        )
        for cell in plan.cells
    ]
    return replace(plan, cells=tuple(cells), aside=tuple(settled))


def is_chosen(environment: Mapping[str, str]) -> bool:
    """Whether make's own command line says what to run again: what was exported for
    other commands runs nothing again.
    """
    typed = on_command_line(environment)
    if EVERYTHING in typed and environment.get(EVERYTHING) == "1":
        return True
    return any(name in typed for name, _ in _choices(environment))


def how_to_choose(environment: Mapping[str, str]) -> str:
    """What to type for the rerun that the environment alone asks for."""
    given = _choices(environment)
    words = shlex.join(f"{name}={value}" for name, value in given)
    return (
        f"nothing was run again: `make rerun {words or f'{EVERYTHING}=1'}` does that, "
        "with the choice on make's own command line"
    )


def _choices(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables that choose what is run again, and their values."""
    names = {*CHOICES.values(), *(f"CONFIG_{symbol}" for symbol in CHOICES)}
    return [each for each in one_shots(environment) if each[0] in names]


def make_room(plan: Plan, move: bool, say: Callable[[str], None]) -> None:
    """Move the runs that others take the place of to
    OUTPUT/.replaced/STUDY/STEP/seed-K/HASH8-N, whole and under no name that a report
    reads; `say` names both places. Without `move` they are only named. The last thing
    before cells start: a plan that is refused has moved nothing.
    """
    for cell in plan.aside:
        target = _aside(plan, cell)
        if move:
            target.parent.mkdir(parents=True, exist_ok=True)
            cell.dir.path.rename(target)
        say(f"{'moved' if move else 'would move'} {cell.dir.path} to {target}")


def replaced(study_dir: Path) -> list[Path]:
    """The runs of a study that others took the place of, in order."""
    return sorted((study_dir.parent / REPLACED / study_dir.name).glob("*/seed-*/*"))


def _aside(plan: Plan, cell: Cell) -> Path:
    """The first free place for a run that is replaced."""
    home = plan.output / REPLACED / cell.dir.path.parent.relative_to(plan.output)
    number = 1
    while (home / f"{cell.dir.path.name}-{number}").exists():
        number += 1
    return home / f"{cell.dir.path.name}-{number}"
