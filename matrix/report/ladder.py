"""The report of a ladder: OUTPUT_DIR/STUDY.ladder.md and .html, with one plot."""

from pathlib import Path
from typing import Sequence

from matrix import units
from matrix.evidence.ladder import FEWEST_SIZES, Ladder, assemble, compute, trend
from matrix.plan.cells import Plan
from matrix.plan.ladder import Rung
from matrix.report.document import Block, Column, Document, Notice, Picture, Section
from matrix.report.document import Table, Text
from matrix.report.html import html
from matrix.report import trial
from matrix.report.markdown import markdown
from matrix.report.plots import ladder as plot
from records import atomic

DESCRIPTION = (
    "A description, no verdict: the sizes are several studies, and a trend over a few of "
    "them is no law. What may be claimed at a size is in its own report. Difference: arm "
    "minus control over the seeds that both have."
)


def write(rungs: Sequence[Rung], plans: Sequence[Plan]) -> list[Path]:
    """Write the ladder's report beside the studies; returns its files."""
    found = assemble(rungs, plans)
    first = plans[0]
    name = first.settings.label.removesuffix(f".{first.settings.part}")
    stem = first.output / f"{name}.ladder{'-trial' if first.trial else ''}"
    picture = plot.picture(found, stem.name)
    document = document_of(found, picture, trial.sentences(first.trial))
    if picture is not None:
        atomic.write_bytes(first.output / picture.file, picture.png)
    paths = [stem.with_name(f"{stem.name}.{end}") for end in ("md", "html")]
    atomic.write_text(paths[0], markdown(document))
    atomic.write_text(paths[1], html(document))
    return paths


# -- the document ---------------------------------------------------------------


def document_of(
    found: Ladder, picture: Picture | None, before: Sequence[str] = ()
) -> Document:
    """Sizes, differences and trends, after the sentences `before`."""
    blocks: list[Block] = [*map(Text, before), Text(DESCRIPTION), sizes_table(found)]
    remarks = _remarks(found)
    if remarks:
        blocks.append(Notice("What the sizes do not share", tuple(remarks)))
    sections = [Section("", tuple(blocks))]
    if found.arms:
        level = f"{100 * found.level:.4g} %"
        text = Text(
            f"Interval: {level} t-interval over the seeds at that size, of this arm "
            "alone. Compute: FLOPs per token × tokens of a run."
        )
        pictures = (picture,) if picture is not None else ()
        sections.append(
            Section("Difference against size", (text, points_table(found), *pictures))
        )
        sections.append(_trends(found))
    return Document(f"Ladder of {found.study}", tuple(sections))


def sizes_table(found: Ladder) -> Table:
    """A row per size: what its control is, and where its report lies."""
    columns = (
        Column("Size", "code"),
        Column("Width"),
        Column("Heads"),
        Column("Layers"),
        Column("Parameters without embeddings"),
        Column("Tokens"),
        Column("Training FLOPs"),
        Column("Seeds"),
        Column("Report", "code"),
    )
    lines = []
    for rung in found.rungs:
        if rung.name not in found.reports:
            dashes = [units.DASH] * 7
            lines.append((rung.name, *dashes, f"none: {found.missing[rung.name]}"))
            continue
        report = found.reports[rung.name]
        file = trial.file("report.md", report.selection.trial)
        control = report.rows[0]
        config = next((run.config for run in control.runs.values()), {})
        width = config.get("GPT2_WIDTH", 0) // config.get("WIDTH_DIVISOR", 1)
        lines.append(
            (
                rung.name,
                str(width or units.DASH),
                str(config.get("GPT2_HEADS", units.DASH)),
                str(config.get("GPT2_LAYERS", units.DASH)),
                control.same("parameters_no_embedding", units.scaled),
                control.same("tokens", units.scaled),
                _flops(compute(control)),
                units.numbers_in(report.study.seeds),
                f"{rung.study_dir.name}/{file}",
            )
        )
    return Table(columns, tuple(lines))


def _flops(value: float | None) -> str:
    return units.DASH if value is None else f"{value:.3g}"


def points_table(found: Ladder) -> Table:
    """A row per arm and size."""
    columns = (
        Column("Step", "code"),
        Column("Size", "code"),
        Column("Parameters without embeddings"),
        Column("Training FLOPs"),
        Column("Seeds"),
        Column("Difference"),
        Column(f"{100 * found.level:.4g} % interval"),
        Column("Remarks", "text"),
    )
    lines = []
    for step, points in found.arms.items():
        for point in points:
            interval = units.DASH
            if point.interval is not None:
                interval = "[{:+.5f}, {:+.5f}]".format(*point.interval)
            lines.append(
                (
                    step,
                    point.rung,
                    units.scaled(point.size),
                    _flops(point.compute),
                    str(len(point.differences)),
                    units.signed(point.mean),
                    interval,
                    point.remark,
                )
            )
    return Table(columns, tuple(lines))


def _trends(found: Ladder) -> Section:
    """What a doubling changed, per arm."""
    columns = (
        Column("Step", "code"),
        Column("Per doubling of parameters"),
        Column(f"{100 * found.level:.4g} % interval"),
        Column("Per doubling of compute"),
        Column(f"{100 * found.level:.4g} % interval"),
    )
    lines = []
    for step, points in found.arms.items():
        cells = []
        for against in ("size", "compute"):
            line = trend(points, against, found.level)
            cells.append(units.DASH if line is None else f"{line.slope:+.5f}")
            ends = line and line.interval
            cells.append("[{:+.5f}, {:+.5f}]".format(*ends) if ends else units.DASH)
        lines.append((step, *cells))
    text = (
        "The slope of a least-squares line through an arm's mean differences, in log2; "
        f"from {FEWEST_SIZES} comparable sizes on. Interval: of the slope over the "
        "seeds, each seed's own line. The line is drawn to twice the largest size and no "
        "value is given beyond."
    )
    return Section("Trend", (Text(text), Table(columns, tuple(lines))))


def _remarks(found: Ladder) -> list[str]:
    """What differs between sizes beside the size, and what does not follow it."""
    lines = [f"size {name}: {why}" for name, why in found.missing.items()]
    controls = {name: report.rows[0] for name, report in found.reports.items()}
    for title, name in (
        ("tokens", "tokens"),
        ("effective batch", "effective_batch"),
        ("context", "context"),
        ("layers", "layers"),
        ("dataset", "dataset_sha256"),
    ):
        told = {rung: row.same(name, str) for rung, row in controls.items()}
        if len(set(told.values())) > 1:
            each = ", ".join(f"{rung}: {value}" for rung, value in told.items())
            lines.append(f"{title} differ: {each}")
    rates = {
        run.config.get("LEARNING_RATE")
        for row in controls.values()
        for run in row.runs.values()
    }
    tuned = all(report.tuning.record for report in found.reports.values())
    if len(found.reports) > 1 and len(rates) == 1 and not tuned:
        lines.append(
            f"the learning rate is {rates.pop()} at every size: it was tuned for none of "
            "them (CONFIG_TUNE does it at each)"
        )
    return lines
