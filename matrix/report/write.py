"""The report of a study: report.md, report.html, runs.csv and its plots.

The same run directories, preregistration and promotion give the same text files,
byte for byte.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path

from matrix import units
from matrix.evidence.gather import Report, gather
from matrix.report import verdict_text
from matrix.report.html import html
from matrix.report.markdown import markdown
from matrix.report.sections import document_of
from matrix.results.rows import Row
from matrix.results.run import ReportError
from matrix.results.runs_csv import csv_text
from matrix.results.selection import Selection
from matrix.results.study import open_cells
from records import atomic
from records.text_table import aligned

__all__ = [
    "Report",
    "ReportError",
    "ReportPaths",
    "gather",
    "render_terminal",
    "write",
]

TERMINAL = 100  # columns
CONTROL = "control"
STEP_COLUMNS = ["SD", "diff", "SD diff", "pairs", "params", "tokens/s", "wall"]
ARM_COLUMNS = ["diff", "vs dense", "sparsity", "step", "memory"]


@dataclass(frozen=True)
class ReportPaths:
    """The report and the files it was written to."""

    report: Report
    markdown: Path
    html: Path
    csv: Path
    pictures: tuple[Path, ...]


def write(study_dir: Path, selection: Selection = Selection()) -> ReportPaths:
    """Write the report of the runs in `study_dir` beside them.

    Raises ReportError when no run has finished, or one has fewer evaluations than the
    metric takes.
    """
    report = gather(study_dir, selection)
    document, pictures = document_of(report)
    paths = ReportPaths(
        report,
        study_dir / "report.md",
        study_dir / "report.html",
        study_dir / "runs.csv",
        tuple(study_dir / picture.file for picture in pictures),
    )
    for picture in pictures:
        atomic.write_bytes(study_dir / picture.file, picture.png)
    text = csv_text(report.study, selection.terms.last_evals)
    atomic.write_text(paths.csv, text)
    atomic.write_text(paths.markdown, markdown(document))
    atomic.write_text(paths.html, html(document))
    return paths


def render_terminal(report: Report) -> str:
    """The losses as plain text, at most 100 columns wide; ends with a newline."""
    arms = any(row.point for row in report.rows)
    head = ["arm" if arms else "step", "seeds", "loss"]
    head += ARM_COLUMNS if arms else STEP_COLUMNS
    table = [head]
    for number, row in enumerate(report.rows):
        difference = units.signed(row.difference) if number else CONTROL
        seeds = f"{len(row.losses)}/{len(report.study.seeds)}"
        cells = (_arm if arms else _step)(row, difference)
        table.append([row.step, seeds, units.loss(row.mean), *cells])
    numbers = range(1, len(head))
    room = TERMINAL - sum(2 + max(len(row[n]) for row in table) for n in numbers)
    table = [[units.shortened(name, room), *cells] for name, *cells in table]
    lines = [f"{report.study.name}: validation loss in nats/token", ""]
    lines += aligned(table, right=numbers)
    wrapper = textwrap.TextWrapper(
        TERMINAL, subsequent_indent="  ", break_on_hyphens=False
    )
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
