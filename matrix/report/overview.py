"""The head of a report: what was run, where, and what to know before reading on."""

from pathlib import Path

from matrix import units
from matrix.evidence.gather import Report
from matrix.report import answers, registration_text, tables, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.results import fairness, publication
from matrix.results.run import Run
from matrix.results.selection import SCREEN
from records.manifest import ManifestError, MissingDataset, read_manifest


def section(report: Report) -> Section:
    """The report's first section, which has no title: question, answers, facts."""
    blocks: list[Block] = []
    if report.evidence.verdicts:
        blocks.append(Text(answers.question(report)))
    blocks += [Text(line) for line in verdict_text.summary(report)]
    if report.evidence.verdicts and report.evidence.terms.stage != SCREEN:
        blocks += [*_standing(report), answers.table(report)]
    if report.warnings:
        blocks.append(Notice("Before these numbers are compared", report.warnings))
    if report.study.open:
        blocks += [
            Text("Cells that failed, are missing or are not finished:"),
            tables.open_table(report.study),
        ]
    columns = (Column("", "text"), Column("", "text"))
    blocks.append(Table(columns, tuple(_lines(report))))
    return Section("", tuple(blocks))


def _standing(report: Report) -> list[Block]:
    """Whether it was announced, and every deviation."""
    lines = registration_text.lines(report)
    if registration_text.deviations(report):
        return [Notice("Deviations from what was announced", tuple(lines))]
    return [Text(lines[0])]


def _lines(report: Report) -> list[tuple[str, str]]:
    """How the numbers were made: label and value."""
    study, runs = report.study, report.counted
    describe = _dataset if study.received is None else _dataset_of_file
    cells, progress = len(study.steps) * len(study.seeds), report.evidence.progress
    if progress is not None:
        cells = sum(progress.needs.get(step, 0) for step in study.steps)
    newest = max(run.time for run in runs)
    ended = f"finished {units.moment(newest)}" if newest else fairness.ABSENT
    return [
        ("Newest run", ended),
        (
            "Cells",
            f"{len(runs)} of {cells} finished: {units.plural(len(study.steps), 'step')}"
            f" × {units.plural(len(study.seeds), 'seed')}"
            f" ({units.numbers_in(study.seeds)})",
        ),
        ("Control", study.steps[0]),
        *publication.facts(publication.of_runs(runs)),
        ("Dataset", "; ".join(units.distinct(describe(run) for run in runs))),
        ("Commit", ", ".join(units.distinct(_commit(run) for run in runs))),
    ]


def _commit(run: Run) -> str:
    git = run.value("git") or {}
    if git.get("commit") is None:
        return f"none ({git.get('why', fairness.ABSENT)})"
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    return git["commit"][: fairness.SHORT] + dirty


def _dataset_of_file(run: Run) -> str:
    """Name and hash; no path that somebody else wrote is looked at."""
    head = f"sha256 {run.value('dataset_sha256')[:fairness.SHORT]}"
    name = run.value("data_dir")
    return head if name is None else f"{Path(name).name}, {head}"


def _dataset(run: Run) -> str:
    """Name, hash and entropies, from the manifest while it is where it was."""
    sha256, where = run.value("dataset_sha256"), run.value("data_dir")
    head = f"sha256 {fairness.shown(sha256)}"
    if where is None or sha256 is None:
        return f"{head} (its folder is {fairness.ABSENT})"
    name = Path(where).name
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
