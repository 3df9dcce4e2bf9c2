"""From the runs of a study to a verdict per step.

Reads what each run recorded, finds the contrasts of the family, says which are
invalid or unfair, and hands the rest to the rule (matrix/evidence/verdict.py).
"""

from dataclasses import dataclass, field, replace
from typing import Collection, Iterable, Mapping, Sequence

from kconf.bind import ranges
from matrix import units
from matrix.evidence import looks
from matrix.evidence.left_out import left_out
from matrix.evidence.looks import Progress
from matrix.evidence.survivors import diverged
from matrix.evidence.text_claims import TextEvidence, on_text
from matrix.evidence.verdict import Contrast, INVALID, Rule, Verdict, decide
from matrix.results import config_differences, copies, evaluations, fairness, sharing
from matrix.results.rows import Row
from matrix.results.run import DIVERGED, Run
from matrix.results.selection import CONFIRM, SCREEN, TUNE, Terms
from matrix.results.step_changes import step_changes
from matrix.results.study import Study

TOLERANCE = 1e-9
UNCHECKED = "configurations not checked"
"""What a claim says that was made without the runs' configurations."""


@dataclass(frozen=True)
class Evidence:
    """The verdicts of a study, and what they are about.

    `family` are the steps that Holm's correction counts, `aa` the arms that are
    the control again; `seeds` the seeds that every arm should have; `refs` name
    the rows whose runs a step's numbers come from; `remarks` are what a reader must
    know of a step beside its verdict. `progress` is where a sequential study stands;
    `text` holds what the evaluated text adds to the error, {} for a metric that no text
    has a share in.
    """

    terms: Terms
    control: str
    seeds: tuple[int, ...]
    family: tuple[str, ...]
    aa: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    refs: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: Mapping[str, TextEvidence] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """The metric, as a reader sees it."""
        return self.terms.metric.description(self.terms.last_evals)

    @property
    def rule(self) -> Rule:
        """The terms as the rule takes them."""
        return _rule(self.terms)

    def of(self, step: str) -> Verdict | None:
        """The verdict of a step."""
        return next((v for v in self.verdicts if v.step == step), None)


def weigh(
    study: Study, rows: Sequence[Row], terms: Terms, related: Sequence[str] = ()
) -> Evidence:
    """The verdicts on every step against the first row, the control.

    `related` are arms of other studies over that control (matrix/evidence/related.py):
    they are in the family with p = 1 and get no verdict here.
    """
    control, arms = rows[0], list(rows[1:])
    aa = tuple(row.step for row in arms if config_differences.only_salted(control, row))
    absent = _absent(study, rows, terms)
    contrasts = [_contrast(study, control, row, terms, row.step in aa) for row in arms]
    contrasts += [Contrast(step, {}, {}, invalid=(why,)) for step, why in absent]
    judged = len(contrasts)
    elsewhere = ("an arm of a related study",)
    contrasts += [Contrast(name, {}, {}, invalid=elsewhere) for name in related]
    verdicts, progress = (), None
    if terms.looks is None:
        verdicts = decide(contrasts, _rule(terms))
    else:
        verdicts, progress = looks.judge(
            contrasts, control.step, _rule(terms), terms.looks
        )
    verdicts = verdicts[:judged]
    return Evidence(
        terms=terms,
        control=control.step,
        seeds=study.seeds,
        family=tuple(c.step for c in contrasts if not c.aa),
        aa=aa,
        verdicts=verdicts,
        progress=progress,
        refs={row.step: row.ref for row in rows},
        remarks={row.step: _remarks(control, row) for row in arms},
        text=on_text(control, arms, terms, verdicts),
    )


def _remarks(control: Row, row: Row) -> tuple[str, ...]:
    return tuple(filter(None, [step_changes(control, row).own_training]))


def _rule(terms: Terms) -> Rule:
    return Rule(terms.alpha, terms.smallest, terms.metric.lower_is_better)


def _absent(study: Study, rows: Sequence[Row], terms: Terms) -> list[tuple[str, str]]:
    """(step, why) of what belongs to the family and has no row.

    A step that once ran in this directory was looked at: leaving it out of a later
    plan does not make the family smaller. After a screening the promoted are the
    family, whatever else ran.
    """
    present = {row.step for row in rows}
    found = [(s, "announced, never ran") for s in terms.family if s not in present]
    if terms.stage == CONFIRM and (terms.screened or terms.looks is None):
        return found
    named = present | {step for step, _ in found}
    for step in units.distinct(run.step for run in study.runs):
        here = [run for run in study.runs if run.step == step]
        salted = all(run.value("changes") == [config_differences.SALT] for run in here)
        if step not in named and not salted:
            found.append((step, "ran in this directory, not in the current plan"))
    return found


def _contrast(study: Study, control: Row, row: Row, terms: Terms, aa: bool) -> Contrast:
    sides = (row, control)
    arm, base = (_values(side, terms) for side in sides)
    invalid, unfair, by_look, lost = [], [], (), {}
    if terms.looks is None:
        for side in sides:
            invalid += [*_faults(study, side, terms), *left_out(study, side, terms)]
        pairs = sorted(arm.keys() & base.keys())
        d = {seed: arm[seed] - base[seed] for seed in pairs}
        invalid += diverged(study, row, control, terms.metric, d)
        unfair = _unfair(study, control, row, terms)
    else:
        for side in sides:
            invalid += left_out(study, side, terms)
        by_look = tuple(_at_look(study, sides, terms, n) for n in terms.looks.at)
        lost = _lost_for_good(study, sides)
    runs = [*control.runs.values(), *row.runs.values()]
    unfair += other_looks(runs, terms, study.configured)
    return Contrast(
        step=row.step,
        arm=arm,
        control=base,
        invalid=tuple(invalid),
        unfair=tuple(unfair),
        aa=aa,
        lost=lost,
        by_look=by_look,
        unchecked=() if study.configured else (UNCHECKED,),
    )


def _values(side: Row, terms: Terms) -> dict[int, float]:
    """The metric by seed, of the runs that record it."""
    found = side.measured(terms.metric, terms.last_evals)
    return {seed: value for seed, value in found.items() if value is not None}


def _faults(study: Study, side: Row, terms: Terms) -> list[str]:
    """What makes a step's runs invalid."""
    found = side.measured(terms.metric, terms.last_evals)
    lacking, lines = [seed for seed, value in found.items() if value is None], []
    if lacking:
        where = f"{side.step} seed {units.numbers_in(lacking)}"
        hint = " (make eval)" if terms.metric.evaluation else ""
        lines.append(f"{where} records no {terms.metric.name}{hint}")
    if terms.looks is None:
        lines += _lost(study, side)
    for run in side.runs.values():
        lines += disagreement(run)
    repeated = copies.copied(side.runs.values())
    return lines + [f"{side.step}: {line}" for line in repeated]


def _at_look(
    study: Study, sides: tuple[Row, Row], terms: Terms, n: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What makes the first n seeds of an arm and its control invalid, and what makes
    them unfair: runs of a later look change nothing about an earlier one.
    """
    row, control = (_first(side, terms.looks.seeds[:n]) for side in sides)
    invalid = [line for side in (row, control) for line in _faults(study, side, terms)]
    return tuple(invalid), tuple(_unfair(study, control, row, terms))


def _first(row: Row, seeds: Collection[int]) -> Row:
    """The row with the runs of these seeds."""
    runs, losses, d = (
        {seed: value for seed, value in found.items() if seed in seeds}
        for found in (row.runs, row.losses, row.differences)
    )
    return replace(row, runs=runs, losses=losses, differences=d)


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


def _lost_for_good(study: Study, rows: Sequence[Row]) -> dict[int, str]:
    """Why a seed of these steps has no run and will have none: it diverged."""
    steps = {row.step: row for row in rows}
    return {
        cell.seed: f"{cell.step} seed {cell.seed} {cell.state}: {cell.why}"
        for cell in study.open
        if cell.step in steps
        and cell.state == DIVERGED
        and cell.seed not in steps[cell.step].runs
    }


def _unfair(study: Study, control: Row, row: Row, terms: Terms) -> list[str]:
    """Why an arm and its control cannot be compared; one line per property.

    Where the configurations are not at hand nothing is said of them.
    """
    runs = [*control.runs.values(), *row.runs.values()]
    lines = [f"different {line}" for line in fairness.differences(runs)]
    lines += fairness.resumed_elsewhere(runs)
    if terms.metric.timed or any(run.value("budget") == "time" for run in runs):
        lines += sharing.shared(runs, study.runs)
    if study.configured:
        lines += config_differences.unexplained([control, row])
    lines += evaluations.incomparable(runs, terms.metric)
    return lines + reused(runs, terms) + tuning_seeds(runs, terms)


def other_looks(
    runs: Iterable[Run], terms: Terms, configured: bool = True
) -> list[str]:
    """Another design, other looks or another order of their seeds than those under
    which a run of this study started: p values of looks that were not planned are none,
    nor are those of one test of runs that were looked at before. Where the
    configurations are not at hand (not `configured`) neither can be told.
    """
    mine = [run for run in runs if not run.reused]
    if not configured:
        confirms = any(run.value("stage") == CONFIRM for run in mine)
        return ["a confirmation, and the file does not hold its design"] * confirms
    if terms.looks is None:
        looked_at = any(
            run.config.get("DESIGN_SEQUENTIAL") is True
            and run.value("stage") == CONFIRM
            for run in mine
        )
        planned = terms.stage == SCREEN or not looked_at
        return [] if planned else ["runs of a sequential study are judged at its looks"]
    if any(run.config.get("DESIGN_SEQUENTIAL", True) is not True for run in mine):
        return ["runs of another design were planned without looks"]
    last, lines = terms.looks.at[-1], []
    for symbol, most, now in (
        ("LOOKS", None, terms.looks.at),
        ("CONFIRM_SEEDS", last, terms.looks.seeds),
    ):
        then = units.distinct(run.config.get(symbol) for run in mine)
        lines += [
            f"CONFIG_{symbol} was {each} when a run began and is "
            f"{','.join(map(str, now))}: p values of looks that were not planned are none"
            for each in then
            if each is not None and ranges(symbol, each)[:most] != now
        ]
    return lines


def reused(runs: Iterable[Run], terms: Terms) -> list[str]:
    """The seeds of a screening say nothing more: they chose the arms."""
    used = sorted(
        {
            run.seed
            for run in runs
            if run.seed in terms.screened or run.value("stage") == SCREEN
        }
    )
    if not used or terms.stage == SCREEN:
        return []
    return [
        f"screening seeds re-used: {units.numbers_in(used)}; a verdict takes fresh "
        "seeds (CONFIG_CONFIRM_SEEDS)"
    ]


def tuning_seeds(runs: Iterable[Run], terms: Terms) -> list[str]:
    """The seeds that chose an arm's values flatter it, in whatever directory."""
    chose = {
        run.seed
        for run in runs
        if run.seed in terms.tuned or run.value("stage") == TUNE
    }
    if not chose:
        return []
    return [
        f"seeds of the tuning: {units.numbers_in(chose)}; they chose the arms' values "
        "(CONFIG_TUNE) and are never judged"
    ]


def disagreement(run: Run) -> list[str]:
    """summary.json repeats the last evaluation; it must be the one in the metrics."""
    step, loss, last = run.value("final_step"), run.value("final_loss"), run.evals[-1]
    near = abs(loss - last["loss"]) <= TOLERANCE * abs(last["loss"])
    if step == last["step"] and near:
        return []
    return [
        f"{run.run_dir}: summary.json ends at step {step} with validation loss "
        f"{loss}, metrics.jsonl at step {last['step']} with {last['loss']}"
    ]


def ranking(evidence: Evidence) -> list[Verdict]:
    """The arms of a screening, the best mean difference first; the lost ones last."""
    sign = 1.0 if evidence.terms.metric.lower_is_better else -1.0

    def key(verdict: Verdict) -> tuple[bool, float]:
        d = list(verdict.differences.values())
        lost = verdict.outcome == INVALID or not d
        return lost, 0.0 if lost else sign * sum(d) / len(d)

    return sorted((v for v in evidence.verdicts if v.step not in evidence.aa), key=key)
