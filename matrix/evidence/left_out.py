"""Seeds that ran for a step and are judged with none of its runs.

Whoever judges six of eight seeds chooses which; by simulation that makes false claims
in 0.25 to 0.40 of studies. So a run that is a judged one in all but its seed counts
against its step until it is judged as well. A trial (another configuration), other
code, a screening's run and a look that was planned are no such run.
"""

from typing import Sequence

from matrix import units
from matrix.results.config_differences import differing
from matrix.results.rows import Row
from matrix.results.run import DIVERGED, DONE, Run
from matrix.results.selection import CONFIRM, SCREEN, Terms
from matrix.results.study import Study

RUNNING = "running"
PARTS = ("code_hash", "code_rule", "dataset_sha256", "planned_threads")
"""Of an identity, what stands beside the configuration."""


def left_out(study: Study, row: Row, terms: Terms) -> list[str]:
    """One line per way in which runs of the step's own cell, with other seeds, ended.

    Nothing in a screening, which claims nothing.
    """
    if terms.stage == SCREEN or not study.configured:  # is it the same cell?
        return []
    judged = list(row.runs.values())
    by_end: dict[str, list[Run]] = {}
    for run in study.left_out:
        if run.step == row.step and _ended(run) and not _planned(run, terms):
            if run.seed in row.runs:  # of another hash: no run of this cell
                continue
            if any(same_but_seed(run, other) for other in judged):
                by_end.setdefault(run.state, []).append(run)
    return [_line(row.step, state, runs) for state, runs in by_end.items()]


def same_but_seed(one: Run, other: Run) -> bool:
    """Whether two runs are one cell with two seeds: configuration, code, dataset and,
    on a CPU, threads are the same.
    """
    parts = all(one.value(name) == other.value(name) for name in PARTS)
    return parts and one.seed != other.seed and not any(differing(one, other))


def _ended(run: Run) -> bool:
    """Whether a run showed a result: it is done, diverged, or ended after it was
    evaluated and before it was done.
    """
    if run.state in (DONE, DIVERGED):
        return True
    return run.state != RUNNING and any(row["step"] > 0 for row in run.evals)


def _planned(run: Run, terms: Terms) -> bool:
    """Whether a run was meant to be judged elsewhere: by its stage, or by a look."""
    if run.value("stage") == SCREEN or run.seed in terms.planned_seeds:
        return True
    chose = run.seed in terms.screened and run.value("stage") != CONFIRM
    return terms.stage == CONFIRM and chose


def _line(step: str, state: str, runs: Sequence[Run]) -> str:
    seeds = sorted({run.seed for run in runs})
    end = "" if state == DONE else f" ({state})"
    dirs = ", ".join(run.run_dir for run in runs)
    noun, verb = ("seed", "is") if len(seeds) == 1 else ("seeds", "are")
    return f"{step}: {noun} {units.numbers_in(seeds)} ran{end} and {verb} left out ({dirs})"
