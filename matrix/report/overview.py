"""The head of a report, which is the answer, and its end: where the numbers are from."""

from pathlib import Path

from matrix import units
from matrix.evidence.gather import Report
from matrix.evidence.verdict import RULE
from matrix.report import answers, registration_text, tables, verdict_text
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.results import fairness, publication
from matrix.results.run import Run
from matrix.results.selection import SCREEN
from records.manifest import ManifestError, MissingDataset, read_manifest


def section(report: Report) -> Section:
    """The report's first section, which has no title: the question, a line per arm, and
    everything that bears on whether the lines hold.
    """
    evidence, blocks = report.evidence, []
    if not evidence.verdicts or evidence.terms.stage == SCREEN:
        blocks += [Text(line) for line in verdict_text.summary(report)]
    else:
        blocks += [Text(answers.question(report)), answers.table(report)]
        blocks.append(Text(_standing(report)))
        against = registration_text.deviations(report)
        if against:
            blocks.append(Notice("Deviations from what was announced", against))
    warnings = [
        line
        for line in report.warnings
        if line not in report.shared or evidence.terms.metric.timed
    ]
    if warnings:
        blocks.append(Notice("Before these numbers are compared", tuple(warnings)))
    if report.study.open:
        blocks += [
            Text("Cells that failed, are missing or are not finished:"),
            tables.open_table(report.study),
        ]
    return Section("", tuple(blocks))


def _standing(report: Report) -> str:
    """Whether it was announced, and how many runs the lines stand on."""
    head = registration_text.lines(report)[:1]
    if report.registration is not None:
        standing = registration_text.standing(report)
        head = [f"{standing[0].upper()}{standing[1:]}."]
    received = report.study.received
    if received is not None:
        file = f"{received.file}, not from run directories"
        head.append(f"Read from {file}: what the file lacks stands at the end.")
    return " ".join([*head, f"{_cells(report)}."])


def _cells(report: Report) -> str:
    """12 of 12 runs finished: 4 steps × 3 seeds (1-3)."""
    study, progress = report.study, report.evidence.progress
    cells = len(study.steps) * len(study.seeds)
    if progress is not None:
        cells = sum(progress.needs.get(step, 0) for step in study.steps)
    return (
        f"{len(report.counted)} of {units.plural(cells, 'run')} finished: "
        f"{units.plural(len(study.steps), 'step')} × "
        f"{units.plural(len(study.seeds), 'seed')} ({units.numbers_in(study.seeds)})"
    )


# -- how the runs were trained ---------------------------------------------------


def setup(report: Report) -> Section:
    """What the control was trained with, which steps were trained otherwise, and what
    each step is and changes.
    """
    control, *arms = [row for row in report.rows if row.runs] or report.rows[:1]
    listed = publication.MODEL + publication.SETUP
    base = publication.facts(publication.of_runs([*control.runs.values()]), listed)
    others = {
        row.step: publication.facts(publication.of_runs([*row.runs.values()]), listed)
        for row in arms
    }
    lines = []
    for number, (label, text) in enumerate(base):
        steps: dict[str, list[str]] = {}
        for step, facts in others.items():
            if facts[number][1] != text:
                steps.setdefault(facts[number][1], []).append(step)
        lines += [
            (label, text, "; ".join(f"{', '.join(s)}: {x}" for x, s in steps.items()))
        ]
    columns = (
        Column("", "text"),
        Column(f"Control, {control.step}", "text"),
        Column("Steps that differ", "text"),
    )
    blocks: list[Block] = [Table(columns, tuple(lines))]
    if len(report.rows) > 1 or report.rows[0].help:
        words = (
            "What each step is. Changes: its lines, with the control's value and its own. "
            "Implied: what follows from them by itself."
        )
        blocks += [Text(words), tables.steps_table(report.rows)]
    return Section("How the runs were trained", tuple(blocks))


# -- where the numbers are from --------------------------------------------------


def provenance(report: Report) -> Section:
    """The folded end: terms, rule, registration, environment, code, data."""
    columns = (Column("", "text"), Column("", "text"))
    blocks: list[Block] = [Table(columns, tuple(_lines(report)))]
    if report.evidence.verdicts and report.evidence.terms.stage != SCREEN:
        blocks.append(Text(RULE))
    received = report.study.received
    if received is not None:
        title = f"What {received.file} lacks"
        blocks.append(Notice(title, received.lacking))
    blocks += map(Text, report.notes)
    return Section("Terms, environment and code", tuple(blocks), folded=True)


def _lines(report: Report) -> list[tuple[str, str]]:
    """Label and value."""
    study, runs = report.study, report.counted
    describe = _dataset if study.received is None else _dataset_of_file
    newest = max(run.time for run in runs)
    ended = f"finished {units.moment(newest)}" if newest else fairness.ABSENT
    lines = []
    if report.evidence.verdicts:
        lines.append(("Terms", verdict_text.terms(report.evidence)))
        lines.append(("Registration", registration_text.lines(report)[0]))
    return [
        *lines,
        ("Newest run", ended),
        *publication.facts(publication.of_runs(runs), publication.ORIGIN),
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
