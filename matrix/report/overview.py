"""The head of a report: what was run, where, and what to know before reading on."""

from pathlib import Path
from typing import Any, Callable

from matrix import units
from matrix.evidence.gather import Report
from matrix.report import tables, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.results import fairness
from matrix.results.run import Run
from records.manifest import ManifestError, MissingDataset, read_manifest


def section(report: Report) -> Section:
    """The report's first section, which has no title."""
    columns = (Column("", "text"), Column("", "text"))
    blocks: list[Block] = [Table(columns, tuple(_lines(report)))]
    blocks += [Text(line) for line in verdict_text.summary(report)]
    if report.warnings:
        blocks.append(Notice("Before these numbers are compared", report.warnings))
    if report.study.open:
        blocks += [
            Text("Cells that failed, are missing or are not finished:"),
            tables.open_table(report.study),
        ]
    return Section("", tuple(blocks))


def _lines(report: Report) -> list[tuple[str, str]]:
    """The head of the report: label and value."""
    study, runs = report.study, report.counted
    cells = len(study.steps) * len(study.seeds)

    def each(name: str, show: Callable[[Any], str] = fairness.shown) -> str:
        found = units.distinct(run.value(name) for run in runs)
        return ", ".join(show(value) for value in found)

    return [
        ("Newest run", f"finished {units.moment(max(run.time for run in runs))}"),
        (
            "Cells",
            f"{len(runs)} of {cells} finished: {units.plural(len(study.steps), 'step')}"
            f" × {units.plural(len(study.seeds), 'seed')}"
            f" ({units.numbers_in(study.seeds)})",
        ),
        ("Control", study.steps[0]),
        ("Commit", ", ".join(units.distinct(_commit(run) for run in runs))),
        ("Code hash", each("code_hash")),
        ("Dataset", "; ".join(units.distinct(_dataset(run) for run in runs))),
        ("Device", each("device")),
        ("Processor", each("processor")),
        ("Software", f"torch {each('torch')}, Python {each('python')}"),
        ("Threads", each("threads")),
        ("Compute type", each("dtype")),
        (
            "Budget",
            f"{each('budget')}, ended by {each('stopped_by')}",
        ),
    ]


def _commit(run: Run) -> str:
    git = run.value("git") or {}
    if git.get("commit") is None:
        return f"none ({git.get('why', fairness.ABSENT)})"
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    return git["commit"][: fairness.SHORT] + dirty


def _dataset(run: Run) -> str:
    """Name, hash and entropies, from the manifest while it is where it was."""
    sha256, where = run.value("dataset_sha256"), run.value("data_dir")
    name, head = Path(where).name, f"sha256 {sha256[:fairness.SHORT]}"
    try:
        manifest = read_manifest(where)
    except MissingDataset:
        return f"{name}, {head} (entropies unknown: it is no longer there)"
    except ManifestError as error:
        return f"{name}, {head} (entropies unknown: {error})"
    if manifest.sha256 != sha256:
        return (
            f"{name}, {head} (packed anew since, as {manifest.sha256[:fairness.SHORT]})"
        )
    entropies = [
        f"{label} entropy {units.loss(nats)} nats/token"
        for label, nats in [
            ("unigram", manifest.unigram_nats),
            ("bigram", manifest.bigram_nats),
        ]
        if nats is not None
    ]
    kind = f"{manifest.corpus}, {manifest.tokenizer} tokens"
    return ", ".join([f"{name} ({kind})", head, *entropies])
