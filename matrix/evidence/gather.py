"""Reads a study and computes what its report says; writes nothing."""

from dataclasses import dataclass, replace
from pathlib import Path

from matrix import units
from matrix.evidence import deviations, preregistration, weigh
from matrix.evidence.preregistration import Registration
from matrix.evidence.related import related_arms
from matrix.evidence.tuning import NOT_TUNED, Account, account
from matrix.evidence.weigh import Evidence
from matrix.plan import stage, tuning
from matrix.results import config_differences, evaluated_text, evaluations, fairness
from matrix.results import sharing
from matrix.results.rows import Row, make_rows
from matrix.results.run import DAMAGED, ReportError, Run
from matrix.results.selection import CONFIRM, Selection, Terms
from matrix.results.study import Study, load, open_cells
from records.layout import RecordError


@dataclass(frozen=True)
class Report:
    """What was selected of a study, its rows, and what a reader must be warned of.

    `deviations` are those that the runs' records show (matrix/evidence/deviations.py),
    beside those from the registration. `shared` says why speeds are no evidence: then
    the rows have none.
    """

    selection: Selection
    study: Study
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    evidence: Evidence
    registration: Registration | None
    deviations: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    tuning: Account = NOT_TUNED

    @property
    def counted(self) -> list[Run]:
        """Every run that a number stands on."""
        return [run for row in self.rows for run in row.runs.values()]


def gather(study_dir: Path, selection: Selection = Selection()) -> Report:
    """Read the runs and compute every number; writes nothing."""
    return gathered(load(study_dir, selection), selection, study_dir)


def gathered(study: Study, selection: Selection, study_dir: Path) -> Report:
    """Compute every number of the study; `study_dir` holds its sealed records."""
    if not study.counted:
        raise ReportError(_nothing_finished(study, study_dir))
    rows = make_rows(study, selection)
    counted = [run for row in rows for run in row.runs.values()]
    warnings = [f"different {line}" for line in fairness.differences(counted)]
    if study.configured:
        warnings += config_differences.unexplained(rows)
    try:
        tuned = account(study_dir, rows)
        terms = completed_terms(selection.terms, study_dir)
    except RecordError as error:
        raise ReportError(str(error)) from error
    related = ()  # a file's paths are opened nowhere
    if study.received is None:
        related = related_arms(study_dir, rows, terms)
    weighed = weigh.weigh(study, rows, terms, related)
    if tuned.record is not None:
        remarks = {row.step: tuned.remark(row.step) for row in rows[1:]}
        remarks = {step: (remark,) for step, remark in remarks.items() if remark}
        weighed = replace(weighed, remarks=remarks)
    if weighed.progress is not None:
        needed = weighed.progress.needed
        still = [cell for cell in study.open if needed(cell.step, cell.seed)]
        study = replace(study, open=tuple(still))
    warnings += fairness.other_ends(counted)
    warnings += fairness.resumed_elsewhere(counted)
    shared = sharing.shared(counted, study.runs)
    warnings += shared
    warnings += evaluations.different_protocols(counted)
    for run in counted:
        warnings += weigh.disagreement(run)
    opened = {cell.run_dir for cell in study.open}
    warnings += [
        f"{run.step} seed {run.seed} is damaged and left out: {run.why}"
        for run in study.runs
        if run.state == DAMAGED and run.run_dir not in opened
    ]
    if not rows[0].runs:
        warnings.append(f"the control {rows[0].step} has no finished run")
    registration = preregistration.compare(study_dir, weighed, counted)
    seeds = preregistration.announced_seeds(study_dir, terms.stage)
    changed = deviations.deviations(study_dir, rows, weighed, seeds)
    sealed = registration.deviations if registration else ()
    return Report(
        selection,
        study,
        sharing.without_speeds(rows) if shared else rows,
        tuple(warnings),
        (*_notes(study, selection), *_hosts(counted), *_family(related)),
        weighed,
        registration,
        tuple(line for line in changed if line not in sealed),
        tuple(shared),
        tuned,
    )


def completed_terms(terms: Terms, study_dir: Path) -> Terms:
    """The terms with what the study's own records announced and used up.

    Raises RecordError for an edited promotion or tuning.
    """
    record = tuning.read(study_dir)
    promotion = stage.read(study_dir)
    family = list(preregistration.announced(study_dir, terms.stage))
    if promotion and terms.stage == CONFIRM:
        family += promotion.promoted
    return replace(
        terms,
        screened=promotion.seeds if promotion else frozenset(),
        tuned=frozenset(record["seeds"] if record else ()),
        family=tuple(units.distinct(family)),
    )


def _nothing_finished(study: Study, study_dir: Path) -> str:
    lines = [f"{study_dir}: no finished run to report yet"]
    for step, seeds, state, why, _ in open_cells(study):
        lines.append(f"  {step} seed {seeds}: {state}: {why}")
    if study.left_out:
        count = units.plural(len(study.left_out), "run")
        lines.append(f"  {count} of other settings or code")
        lines.append(f"  scripts/make_report.py {study_dir} reports the newest runs")
    return "\n".join(lines)


def _family(related: tuple[str, ...]) -> list[str]:
    """The arms of other studies in the family."""
    if not related:
        return []
    count = units.plural(len(related), "arm")
    return [
        f"Holm's family counts {count} of other studies over the same control runs, "
        f"with p = 1: {', '.join(related)}"
    ]


def _hosts(counted: list[Run]) -> list[str]:
    """Processors beside GPUs, which are no reason against a comparison."""
    if {run.value("device_kind") for run in counted} == {"cpu"}:
        return []
    return fairness.hosts(counted)


def _notes(study: Study, selection: Selection) -> list[str]:
    reused = [run for run in study.counted.values() if run.reused]
    notes = []
    if reused:
        count = units.plural(len(reused), "control run")
        dirs = ", ".join(run.run_dir for run in reused)
        notes.append(f"{count} reused from another study, read where they lie: {dirs}")
    notes += evaluated_text.small(run.evaluated_text for run in study.counted.values())
    if not study.left_out:
        return notes
    n = units.plural(len(study.left_out), "run")
    why = "older than the one that counts for its cell"
    if selection.hashes is not None:
        why += ", or not in the current plan"
    return [*notes, f"{n} left out: {why}. runs.csv lists every run directory."]
