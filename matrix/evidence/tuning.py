"""What a tuning tried and chose, sealed in tuning.json; and what a report says of it.

Every arm is trained at the same points on the same seeds, so each had the same budget.
The best mean of the study's metric is chosen, the first one of equals. The runs lie in a
study of their own and say so (their stage is "tune"): no verdict takes them.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from matrix import units
from matrix.plan import tuning
from matrix.plan.cells import Cell, Plan
from matrix.plan.checks import PlanError
from matrix.plan.tuning_points import SOBOL_SEED
from matrix.results import config_differences
from matrix.results.metrics import Metric, named
from matrix.results.rows import Row
from matrix.results.run import DIVERGED, DONE, Run, find
from records import sealed_record


def seal(plan: Plan) -> tuple[Path, dict[str, Any]]:
    """Choose every arm's values from the finished trials of a tuning's plan and write
    tuning.json of the study; returns where, and what it holds.

    A tuning that is sealed already is returned as it is. Raises PlanError while trials
    are missing, for a metric that training does not measure, and for an arm whose
    trials all diverged.
    """
    study_dir = plan.output / plan.settings.tuned_label
    path = study_dir / tuning.TUNING_JSON
    if known := tuning.read(study_dir):
        return path, known
    metric = named(plan.settings.metric)
    if metric.evaluation is not None or metric.timed:
        raise PlanError(f"CONFIG_METRIC={metric.name}: a tuning goes by a loss")
    runs = {(run.step, run.seed, run.hash8): run for run in find(plan.study_dir)}
    by_arm: dict[str, list[list[Cell]]] = {}
    for step in units.distinct(cell.step for cell in plan.cells):
        trial = [cell for cell in plan.cells if cell.step == step]
        by_arm.setdefault(trial[0].arm["of"], []).append(trial)
    arms = {
        step: _arm(plan, step, [_trial(plan, metric, runs, t) for t in trials], trials)
        for step, trials in by_arm.items()
    }
    control = next(cell for cell in plan.cells if cell.control)
    settings = plan.settings
    record = {
        "tune": settings.tuning.symbols,
        "points": settings.tuning.points,
        "sobol_seed": SOBOL_SEED,
        "seeds": list(settings.seed_list),
        "study": settings.label,
        "metric": metric.name,
        "last_evals": settings.last_evals,
        "control": control.arm["of"],
        "arms": arms,
        "time": time.time(),
    }
    record["config"] = tuning.control_config(control.values, plan.operational, record)
    sealed_record.write(path, record)
    return path, tuning.read(study_dir)


def _trial(
    plan: Plan,
    metric: Metric,
    runs: Mapping[tuple[str, int, str], Run],
    cells: Sequence[Cell],
) -> dict[str, Any]:
    """A point of an arm: its metric by seed; null where the run diverged."""
    found: dict[str, float | None] = {}
    dirs = []
    for cell in cells:
        run = runs.get((cell.step, cell.seed, cell.hash[:8]))
        if run is None or run.state not in (DONE, DIVERGED):
            state = run.state if run else "never ran"
            raise PlanError(
                f"{cell.name}: {state}: every trial counts; make tune again"
            )
        value = None
        if run.state == DONE:
            value = metric.of(run, plan.settings.last_evals)
        found[str(cell.seed)] = value
        dirs.append(run.run_dir)
    values = list(found.values())
    mean = None if None in values else math.fsum(values) / len(values)
    point = dict(cells[0].arm["point"])
    return {"values": point, "metric": mean, "by_seed": found, "runs": dirs}


def _arm(
    plan: Plan,
    step: str,
    trials: Sequence[Mapping[str, Any]],
    cells: Sequence[Sequence[Cell]],
) -> dict[str, Any]:
    """An arm's trials and the values of the best one."""
    sound = [trial for trial in trials if trial["metric"] is not None]
    if not sound:
        raise PlanError(
            f"{step}: every trial diverged: CONFIG_TUNE has no point for it"
        )
    sign = 1.0 if named(plan.settings.metric).lower_is_better else -1.0
    best = min(sound, key=lambda trial: sign * trial["metric"])
    cell = cells[0][0]
    own = {s: cell.values[s] for s in cell.changes if s not in best["values"]}
    return {"changes": own, "trials": list(trials), "chosen": best["values"]}


# -- in a report --------------------------------------------------------------

OPTIMIZER = (
    *("LEARNING_RATE", "MIN_LEARNING_RATE", "GPT2_WARMUP_STEPS", "WEIGHT_DECAY"),
    *("ADAM_BETA1", "ADAM_BETA2", "ADAM_EPS", "GRAD_CLIP"),
    *("SGD_MOMENTUM", "SGD_NESTEROV", "MUON_MOMENTUM", "MUON_NESTEROV", "MUON_STEPS"),
    *("SPAM_THETA", "SPAM_INTERVAL", "SPAM_WARMUP", "SPAM_RESET_CORRECTION"),
)
"""What a person sets for an optimizer, its choice apart (gpt2/optim/Kconfig)."""


@dataclass(frozen=True)
class Account:
    """The tuning of a study as its report takes it.

    record: tuning.json, None where nothing was tuned. untuned: step → why the runs that
    count are none that a declared budget chose, equal to the others'. own: step → the
    optimizer's symbols that its runs set otherwise than the control's, and that no
    such budget chose. control: the step that the others are compared with.
    """

    control: str
    record: Mapping[str, Any] | None
    untuned: Mapping[str, str]
    own: Mapping[str, tuple[str, ...]]

    def tuned(self, step: str) -> bool:
        """Whether a step's runs hold what a declared, equal budget chose for it."""
        return self.record is not None and step not in self.untuned

    def remark(self, step: str) -> str | None:
        """What stands beside the verdict on an arm whose rate was set for it alone."""
        if step not in self.own:
            return None
        text = f"its rate was set for this arm ({', '.join(self.own[step])})"
        for name in (step, self.control):
            if name in self.untuned:
                return f"{text}: {name} {self.untuned[name]}"
        return f"{text}, the control's was not tuned"


NOT_TUNED = Account("", None, {}, {})


def account(study_dir: Path, rows: Sequence[Row]) -> Account:
    """The tuning of the study in `study_dir`, held against the runs that count.

    Raises RecordError for an edited tuning.json.
    """
    record = tuning.read(study_dir)
    control, *arms = rows
    untuned = {}
    if record is not None:
        reasons = {row.step: _untuned(record, control, row) for row in rows}
        untuned = {step: why for step, why in reasons.items() if why}
    own = {}
    for row in arms:
        chosen: tuple[str, ...] = ()
        if record is not None and not {control.step, row.step} & untuned.keys():
            chosen = symbols(record)
        differing = _differing(control, row, chosen)
        own |= {row.step: differing} if differing else {}
    return Account(control.step, record, untuned, own)


def symbols(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The symbols that were tuned."""
    return tuple(record["arms"][record["control"]]["chosen"])


def trial_count(arm: Mapping[str, Any]) -> int:
    """Runs that an arm was tuned with."""
    return sum(len(trial["by_seed"]) for trial in arm["trials"])


def _untuned(record: Mapping[str, Any], control: Row, row: Row) -> str | None:
    """Why a step's runs are not those of its chosen values under an equal budget."""
    salted = row is not control and config_differences.only_salted(control, row)
    arm = record["arms"].get(record["control"] if salted else row.step)
    if arm is None:
        return "was not among the arms that were tuned"
    budget = trial_count(record["arms"][record["control"]])
    if trial_count(arm) != budget:
        runs = units.plural(trial_count(arm), "run")
        return f"was tuned with {runs}, the control with {budget}"
    for seed, run in row.runs.items():
        for symbol, value in arm["chosen"].items():
            if str(run.config.get(symbol)) != value:
                now = run.config.get(symbol)
                return f"seed {seed} ran with CONFIG_{symbol}={now}, not {value}"
    return None


def _differing(control: Row, row: Row, chosen: Sequence[str]) -> tuple[str, ...]:
    """ "CONFIG_X control → arm" for what both have of the optimizer and set apart,
    where that is not all that the arm is.
    """
    found: dict[str, None] = {}
    for seed in row.differences:
        run, base = row.runs[seed], control.runs[seed]
        if not set(config_differences.differing(base, run)) - {*OPTIMIZER}:
            continue  # an arm that is its rate
        mine, theirs = run.config, base.config
        for symbol in (name for name in OPTIMIZER if name not in chosen):
            pair = theirs.get(symbol), mine.get(symbol)
            if None not in pair and pair[0] != pair[1]:
                found[f"CONFIG_{symbol} {pair[0]} → {pair[1]}"] = None
    return tuple(found)


def sealed(plan: Plan) -> dict[str, Any] | None:
    """What a preregistration says of the tuning: what was tried, on which seeds, the
    seal of tuning.json and the values it gives each step; None without CONFIG_TUNE.
    """
    if not plan.settings.tuning.symbols:
        return None
    record = tuning.read(plan.study_dir)
    arms = record["arms"]
    return {
        "tune": record["tune"],
        "points": record["points"],
        "seeds": record["seeds"],
        "sha256": record[sealed_record.SEAL],
        "chosen": {step: arm["chosen"] for step, arm in arms.items()},
        "runs_per_arm": {step: trial_count(arm) for step, arm in arms.items()},
    }
