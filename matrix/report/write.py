"""The report of a study: report.md, report.html, runs.csv, runs.jsonl and its plots;
of a trial report-trial.md and so on, beside them.

The same run directories, preregistration and promotion give the same text files,
byte for byte.
"""

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matrix import units
from matrix.evidence import preregistration
from matrix.evidence.gather import Report, gather
from matrix.evidence.gather_file import gather_file
from matrix.report import trial, verdict_text
from matrix.report.html import html
from matrix.report.markdown import markdown
from matrix.report.sections import document_of
from matrix.plan.rerun import replaced
from matrix.plan.stage import PROMOTION
from matrix.plan.tuning import TUNING_JSON
from matrix.results import runs_jsonl
from matrix.results.rows import Row
from matrix.results.run import ReportError
from matrix.results.runs_csv import csv_text
from matrix.results.selection import Selection
from matrix.results.study import open_cells
from records import atomic, sealed_record
from records.files import shown
from records.layout import RecordError, read_json
from records.text_table import WIDTH, fitted

__all__ = [
    "Report",
    "ReportError",
    "ReportPaths",
    "gather",
    "render_terminal",
    "write",
]

SEALED = {preregistration.WHOLE, preregistration.CONFIRMATION, PROMOTION, TUNING_JSON}
CONTROL = "control"
STEP_COLUMNS = ["SD", "diff", "SD diff", "pairs", "params", "tokens/s", "wall"]
ARM_COLUMNS = ["diff", "vs dense", "sparsity", "step", "memory"]


@dataclass(frozen=True)
class ReportPaths:
    """The report and the files it was written to; the runs themselves (`csv`, `jsonl`)
    are not written where the report was made of such a file.
    """

    report: Report
    markdown: Path
    html: Path
    pictures: tuple[Path, ...]
    csv: Path | None = None
    jsonl: Path | None = None


def write(study_dir: Path, selection: Selection = Selection()) -> ReportPaths:
    """Write the report of the runs in `study_dir` beside them.

    Raises ReportError when no run has finished, or one has fewer evaluations than the
    metric takes.
    """
    report = gather(study_dir, selection)
    written = _documents(report, study_dir)
    csv, jsonl = (
        study_dir / trial.file(name, selection.trial)
        for name in ("runs.csv", "runs.jsonl")
    )
    atomic.write_text(csv, csv_text(report.study, selection.terms.last_evals))
    records, former = _beside(study_dir)
    text = runs_jsonl.text(report.study, selection, records, former)
    atomic.write_text(jsonl, text)
    return replace(written, csv=csv, jsonl=jsonl)


def write_received(file: Path, output: Path) -> ReportPaths:
    """Write the report of a runs.csv or runs.jsonl to the folder `output`.

    Neither file is written anew there. Raises ReportError.
    """
    report = gather_file(file)
    output.mkdir(parents=True, exist_ok=True)
    return _documents(report, output)


def _documents(report: Report, folder: Path) -> ReportPaths:
    """Write report.md, report.html and the pictures."""
    document, pictures = trial.marked(document_of(report), report.selection.trial)
    for picture in pictures:
        atomic.write_bytes(folder / picture.file, picture.png)
    markdown_file, html_file = (
        folder / trial.file(name, report.selection.trial)
        for name in ("report.md", "report.html")
    )
    atomic.write_text(markdown_file, markdown(document))
    atomic.write_text(html_file, html(document))
    drawn = tuple(folder / picture.file for picture in pictures)
    return ReportPaths(report, markdown_file, html_file, drawn)


def _beside(study_dir: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The sealed records in the study's directory, and the runs that were replaced.

    One that cannot be read is {}, whose seal is broken: no reader takes it for absent.
    """
    records = {}
    for path in sorted(study_dir.glob("*.json")):
        try:
            record = read_json(path)
        except RecordError:
            record = {}
        if path.name in SEALED or sealed_record.SEAL in record:
            records[path.name] = record
    return records, [shown("/".join(path.parts[-3:])) for path in replaced(study_dir)]


def render_terminal(report: Report) -> str:
    """The validation losses as plain text, in WIDTH columns; ends with a newline."""
    arms = any(row.point for row in report.rows)
    head = ["arm" if arms else "step", "seeds", "val loss"]
    head += ARM_COLUMNS if arms else STEP_COLUMNS
    table = [head]
    for number, row in enumerate(report.rows):
        difference = units.signed(row.difference) if number else CONTROL
        seeds = f"{len(row.losses)}/{len(report.study.seeds)}"
        cells = (_arm if arms else _step)(row, difference)
        table.append([row.step, seeds, units.loss(row.mean), *cells])
    title = "validation loss (val loss) and differences in nats/token"
    lines = [f"{report.study.name}: {title}", ""]
    wrapper = textwrap.TextWrapper(
        WIDTH, subsequent_indent="  ", break_on_hyphens=False
    )
    for text in trial.sentences(report.selection.trial):
        lines += [*wrapper.wrap(text), ""]
    lines += fitted(table, right=range(1, len(head)))
    paragraphs = [f"warning: {line}" for line in report.warnings]
    for step, seeds, state, why, run_dir in open_cells(report.study):
        where = f" ({run_dir})" if run_dir else ""
        paragraphs.append(f"{state}: {step} seed {seeds}: {why}{where}")
    paragraphs += [
        f"excluded: {line}" for line in units.by_reason(report.selection.excluded)
    ]
    for text in [*paragraphs, *report.notes, *verdict_text.summary(report)]:
        lines += ["", *wrapper.wrap(text)]
    verdicts = [wrapper.wrap(line) for line in verdict_text.one_line(report)]
    lines += [""] * bool(verdicts) + [line for each in verdicts for line in each]
    return "\n".join(lines) + "\n"


def _arm(row: Row, difference: str) -> list[str]:
    """ARM_COLUMNS of an arm of a test matrix."""
    return [
        difference,
        units.signed(row.dense_difference),
        units.percent(row.average("sparsity")),
        units.step_time(row.average("average_step_time")),
        units.memory(row.peak_memory),
    ]


def _step(row: Row, difference: str) -> list[str]:
    """STEP_COLUMNS of a step."""
    return [
        units.spread(row.sd),
        difference,
        units.spread(row.difference_sd),
        units.DASH if difference == CONTROL else str(len(row.differences)),
        row.same("parameters", units.scaled),
        units.count(row.average("tokens_per_s")),
        units.duration(row.average("total_time_all_attempts")),
    ]
