"""From the runs of a study to a verdict per step.

Reads what each run recorded, finds the contrasts of the family, says which are
invalid or unfair, and hands the rest to the rule (matrix/evidence/verdict.py).
"""

from dataclasses import dataclass, field
from typing import Iterable, Mapping, Sequence

from matrix import units
from matrix.evidence.verdict import Contrast, INVALID, Rule, Verdict, decide
from matrix.results import config_differences, evaluations, fairness
from matrix.results.metrics import Metric, VAL_LOSS
from matrix.results.rows import Row
from matrix.results.runs import Run, Study
from matrix.settings import CONFIRM, ONE, SCREEN

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Terms:
    """What was settled before the runs: metric, smallest effect, level, stage.

    `smallest` is in the metric's unit, None where none was named for it.
    `screened` are the seeds that a screening has used and `family` the steps
    announced beside those with runs (preregistered ones, promoted ones).
    """

    metric: Metric = VAL_LOSS
    smallest: float | None = 0.002
    alpha: float = 0.05
    stage: str = ONE
    screened: frozenset[int] = frozenset()
    family: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        """These terms as the rule takes them."""
        return Rule(self.alpha, self.smallest, self.metric.lower_is_better)


@dataclass(frozen=True)
class Evidence:
    """The verdicts of a study, and what they are about.

    `family` are the steps that Holm's correction counts, `aa` the arms that are
    the control again; `seeds` the seeds that every arm should have; `refs` name
    the rows whose runs a step's numbers come from.
    """

    terms: Terms
    last_evals: int
    control: str
    seeds: tuple[int, ...]
    family: tuple[str, ...]
    aa: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    refs: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """The metric, as a reader sees it."""
        return self.terms.metric.told(self.last_evals)

    def of(self, step: str) -> Verdict | None:
        """The verdict of a step."""
        return next((v for v in self.verdicts if v.step == step), None)

    @property
    def floor(self) -> tuple[float, float] | None:
        """The noise floor: the hull of the 1 − α intervals of the A/A arms and 0."""
        found = [v.measured for v in self.verdicts if v.step in self.aa and v.measured]
        ends = [end for measured in found for end in measured.interval]
        return (min(0.0, *ends), max(0.0, *ends)) if ends else None


def weigh(study: Study, rows: Sequence[Row], last_evals: int, terms: Terms) -> Evidence:
    """The verdicts on every step against the first row, the control."""
    control, arms = rows[0], list(rows[1:])
    aa = tuple(row.step for row in arms if config_differences.only_salted(control, row))
    absent = _absent(study, rows, terms)
    contrasts = [
        _contrast(study, control, row, last_evals, terms, row.step in aa)
        for row in arms
    ]
    contrasts += [Contrast(step, {}, {}, invalid=(why,)) for step, why in absent]
    return Evidence(
        terms=terms,
        last_evals=last_evals,
        control=control.step,
        seeds=study.seeds,
        family=tuple(c.step for c in contrasts if not c.aa),
        aa=aa,
        verdicts=decide(contrasts, terms.rule),
        refs={row.step: row.ref for row in rows},
    )


def _absent(study: Study, rows: Sequence[Row], terms: Terms) -> list[tuple[str, str]]:
    """(step, why) of what belongs to the family and has no row.

    A step that once ran in this directory was looked at: leaving it out of a later
    plan does not make the family smaller. After a screening the promoted are the
    family, whatever else ran.
    """
    present = {row.step for row in rows}
    found = [(s, "announced, never ran") for s in terms.family if s not in present]
    if terms.stage == CONFIRM:
        return found
    named = present | {step for step, _ in found}
    for step in units.distinct(run.step for run in study.runs):
        here = [run for run in study.runs if run.step == step]
        salted = all(
            run.at("run.cell.changes") == [config_differences.SALT] for run in here
        )
        if step not in named and not salted:
            found.append((step, "ran in this directory, not in the current plan"))
    return found


def _contrast(
    study: Study, control: Row, row: Row, last_evals: int, terms: Terms, aa: bool
) -> Contrast:
    values: dict[str, dict[int, float]] = {}
    invalid = []
    for side in (row, control):
        found = {k: terms.metric.of(run, last_evals) for k, run in side.runs.items()}
        values[side.step] = {k: v for k, v in found.items() if v is not None}
        lacking = [k for k, v in found.items() if v is None]
        if lacking:
            where = f"{side.step} seed {units.numbers_in(lacking)}"
            hint = " (make eval)" if terms.metric.evaluation else ""
            invalid.append(f"{where} records no {terms.metric.name}{hint}")
        invalid += _lost(study, side)
        for run in side.runs.values():
            invalid += disagreement(run)
    return Contrast(
        step=row.step,
        arm=values[row.step],
        control=values[control.step],
        invalid=tuple(invalid),
        unfair=tuple(_unfair(control, row, terms)),
        aa=aa,
    )


def _lost(study: Study, row: Row) -> list[str]:
    """One line per cause for the seeds of a step that have no finished run."""
    causes: dict[str, list[int]] = {}
    for cell in study.open:
        if cell.step == row.step and cell.seed not in row.runs:
            why = ": ".join(part for part in (cell.state, cell.why) if part)
            where = f" ({cell.run_dir})" if cell.run_dir else ""
            causes.setdefault(why + where, []).append(cell.seed)
    return [
        f"{row.step} seed {units.numbers_in(seeds)} {why}"
        for why, seeds in causes.items()
    ]


def _unfair(control: Row, row: Row, terms: Terms) -> list[str]:
    """Why an arm and its control cannot be compared; one line per property."""
    runs = [*control.runs.values(), *row.runs.values()]
    lines = [f"different {line}" for line in fairness.differences(runs)]
    lines += fairness.mixed(runs)
    if terms.metric.timed:
        lines += fairness.shared(runs)
    lines += config_differences.unexplained([control, row])
    lines += evaluations.incomparable(runs, terms.metric)
    return lines + reused(runs, terms)


def reused(runs: Iterable[Run], terms: Terms) -> list[str]:
    """The seeds of a screening say nothing more: they chose the arms."""
    used = sorted(
        {
            run.seed
            for run in runs
            if run.seed in terms.screened or run.at("run.cell.stage") == SCREEN
        }
    )
    if not used or terms.stage == SCREEN:
        return []
    return [
        f"screening seeds re-used: {units.numbers_in(used)}; a verdict takes fresh "
        "seeds (CONFIG_CONFIRM_SEEDS)"
    ]


def disagreement(run: Run) -> list[str]:
    """summary.json repeats the last evaluation; it must be the one in the metrics."""
    told, last = run.at("summary.final_eval"), run.evals[-1]
    same = told["step"] == last["step"] and abs(
        told["loss"] - last["loss"]
    ) <= TOLERANCE * abs(last["loss"])
    if same:
        return []
    return [
        f"{run.run_dir}: summary.json ends at step {told['step']} with loss "
        f"{told['loss']}, metrics.jsonl at step {last['step']} with {last['loss']}"
    ]


def ranking(evidence: Evidence) -> list[Verdict]:
    """The arms of a screening, the best mean difference first; the lost ones last."""
    sign = 1.0 if evidence.terms.metric.lower_is_better else -1.0

    def key(verdict: Verdict) -> tuple[bool, float]:
        d = list(verdict.differences.values())
        lost = verdict.word == INVALID or not d
        return lost, 0.0 if lost else sign * sum(d) / len(d)

    return sorted((v for v in evidence.verdicts if v.step not in evidence.aa), key=key)
