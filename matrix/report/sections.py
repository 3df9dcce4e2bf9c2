"""The report as a document: which sections, tables and plots, in which words."""

from pathlib import Path
from typing import Any, Callable, Sequence

from matplotlib.figure import Figure

from matrix import units
from matrix.evidence.gather import Report
from matrix.report import arm_tables, equal_time
from matrix.report import evaluation_section
from matrix.report import tables, verdict_section, verdict_text
from matrix.report.document import Block, Column, Document, Notice, Picture, Section
from matrix.report.document import Table, Text
from matrix.report.plots import attention_statistics, forest, loss_against_cost
from matrix.report.plots import common
from matrix.report.plots import learning_rates, speed_memory_sparsity
from matrix.results import fairness
from matrix.results.run import Run
from records.manifest import ManifestError, MissingDataset, read_manifest

SHORT = fairness.SHORT


def compose(report: Report) -> tuple[Document, tuple[Picture, ...]]:
    """The document, and the pictures in it: curves, final losses, and others."""
    curves, finals = _curves(report), _finals(report)
    study, k = report.study, report.selection.terms.last_evals
    of = "the last evaluation" if k == 1 else f"the mean of the last {k} evaluations"
    losses = (
        f"Validation loss: {of} of each run, mean over the seeds. SD: standard "
        "deviation over the seeds (n−1). Difference: step minus control over the "
        "seeds that both have; negative where the step's loss is the lower one. "
        "Runs: where the number comes from (last section)."
    )
    sizes = (
        "FLOPs/token count attention in full. Cache: values kept per token, after the "
        "plus sign those that do not grow with the context."
    )
    table = tables.loss_table(report.rows, len(study.seeds))
    sections = [
        Section("", tuple(_head(report))),
        Section("Losses", (Text(losses), table, curves, finals)),
        *_verdicts(report),
        *_matrix(report),
        *evaluation_section.section(report.rows),
        Section("Size", (Text(sizes), tables.size_table(report.rows))),
        Section("Time and memory", _speed(report)),
        *loss_against_cost.section(report.rows, report.evidence.aa),
        *speed_memory_sparsity.sparsity_section(report.rows),
        *attention_statistics.section(report.rows),
        Section("Runs", (tables.runs_table(report.rows), *map(Text, report.notes))),
    ]
    equal = equal_time.table(report.rows)
    if equal is not None:
        where = ("Equal training time", (Text(equal_time.TEXT), equal))
        sections.insert(-1, Section(*where))
    if any(row.help for row in report.rows):
        sections.insert(-1, Section("Steps", (tables.steps_table(report.rows),)))
    document = Document(f"Study {study.name}", tuple(sections))
    blocks = [block for section in sections for block in section.blocks]
    pictures = [block for block in blocks if isinstance(block, Picture)]
    pictures.sort(key=lambda picture: picture not in (curves, finals))
    return document, tuple(pictures)


def _speed(report: Report) -> tuple[Block, ...]:
    """Time, memory and energy: the words, the table, the plot."""
    text = (
        "Means over the seeds; wall time is that of all attempts of a run that ended "
        "by themselves; a killed attempt records no end. Tokens/s: of all GPUs of a run "
        "together. Peak memory: of one of them, rank 0's, the maximum over the seeds."
    )
    if any(run.value("energy_joules") for run in report.counted):
        text += (
            " Energy: the power of all GPUs of a run, integrated over its samples "
            "(gpu.jsonl) of all attempts; per token trained on."
        )
    else:
        text += " Energy was not measured: no run has samples (gpu.jsonl)."
    blocks: list[Block] = [Text(text), tables.speed_table(report.rows)]
    gaps = [
        f"{run.step} seed {run.seed}: {run.value('energy_remark')} ({run.run_dir})"
        for run in report.counted
        if run.value("energy_remark")
    ]
    if gaps:
        blocks.append(Notice("Energy that was not measured", tuple(gaps)))
    picture = speed_memory_sparsity.speed_picture(report.rows)
    return (*blocks, *([picture] if picture else []))


def _verdicts(report: Report) -> list[Section]:
    """The verdicts and their plot; nothing for a study of one step."""
    if not report.evidence.verdicts:
        return []
    figure = forest.forest(report.evidence)
    return [
        verdict_section.section(report, [_forest(report, figure)] if figure else [])
    ]


def _forest(report: Report, figure: Figure) -> Picture:
    caption = (
        "Each arm's mean difference to the control: thin line the interval at its Holm "
        "level, thick line the 90 % interval, small dots the seeds. Diamond SUPPORTED, "
        "square LIMITED, triangle A/A, circle no claim; filled and blue is better, "
        "filled and orange worse. Dotted: ± the smallest effect of interest."
    )
    if report.evidence.floor:
        arms = ", ".join(report.evidence.aa)
        level = f"{100 * (1 - report.evidence.terms.alpha):.4g} %"
        caption += f" Band: the noise floor, the {level} interval of {arms} (A/A)."
    return common.picture(
        figure,
        "differences",
        "Difference of every arm to the control with its interval",
        caption,
    )


def _matrix(report: Report) -> list[Section]:
    """What a test matrix has beside the sections of every study."""
    sections = []
    if any(row.point for row in report.rows):
        text = (
            "Every arm is compared with the control and, when it prunes, with its "
            "dense arm: the same optimizer, learning rate and other axes without "
            "pruning. Differences are paired by seed; negative where the arm's loss is "
            "the lower one. Sparsity: zeros among the blocks' matrices at the end, and "
            "their share of all parameters. Step time: mean over a run's timed steps, "
            "mask updates included. Peak memory: of one GPU of a run, "
            "the maximum over the seeds."
        )
        table = arm_tables.arms_table(report.rows)
        each = arm_tables.seeds_table(report.rows)
        sections.append(Section("Arms", (Text(text), table)))
        sections.append(Section("Arms, seed by seed", (each,)))
    lines = learning_rates.series(report.rows)
    if lines:
        picture = _rates(lines)
        table = arm_tables.rates_table(lines)
        sections.append(Section("Learning rate", (picture, table)))
    if report.selection.excluded:
        text = "Combinations of the axes that the configuration refuses:"
        table = arm_tables.excluded_table(report.selection.excluded)
        sections.append(Section("Excluded", (Text(text), table)))
    return sections


def _rates(lines: Sequence[learning_rates.Series]) -> Picture:
    figure = learning_rates.figure(lines)
    caption = (
        "Final loss against the peak learning rate: lines join the means, dots are "
        "runs. A comparison at one rate can rank arms in another order than one at "
        "each arm's best rate. Rates without a finished run are not drawn."
    )
    return common.picture(
        figure,
        "learning-rates",
        "Final loss against learning rate, one line per optimizer and pruning",
        caption,
    )


def _head(report: Report) -> list[Block]:
    columns = (Column("", "text"), Column("", "text"))
    blocks: list[Block] = [Table(columns, tuple(_facts(report)))]
    blocks += [Text(line) for line in verdict_text.summary(report)]
    if report.warnings:
        blocks.append(Notice("Before these numbers are compared", report.warnings))
    if report.study.open:
        blocks += [
            Text("Cells that failed, are missing or are not finished:"),
            tables.open_table(report.study),
        ]
    return blocks


def _curves(report: Report) -> Picture:
    figure = common.learning_curves(report.rows)
    caption = (
        "Above: validation loss against tokens, mean over the seeds, thin lines at "
        "their minimum and maximum; the axis is fitted to what follows the first "
        f"{common.SKIPPED:.0%} of the tokens. Below: the difference to the control, "
        f"seed by seed, fitted to what follows the first {common.SETTLED:.0%}."
    )
    if not common.banded(report.rows):
        caption += " With this many steps only the means are drawn there."
    return common.picture(
        figure,
        "learning-curves",
        "Learning curves of every step, and their difference to the control",
        caption,
    )


def _finals(report: Report) -> Picture:
    figure = common.final_losses(report.rows)
    caption = (
        "One dot per run, a bar at the mean of each step. Left: final loss, the runs "
        "of one seed joined by a line. Right: step minus control, same seed."
    )
    return common.picture(
        figure,
        "final-losses",
        "Final loss of every run by step, and its difference to the control",
        caption,
    )


def _facts(report: Report) -> list[tuple[str, str]]:
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
    return git["commit"][:SHORT] + dirty


def _dataset(run: Run) -> str:
    """Name, hash and entropies, from the manifest while it is where it was."""
    sha256, where = run.value("dataset_sha256"), run.value("data_dir")
    name, head = Path(where).name, f"sha256 {sha256[:SHORT]}"
    try:
        manifest = read_manifest(where)
    except MissingDataset:
        return f"{name}, {head} (entropies unknown: it is no longer there)"
    except ManifestError as error:
        return f"{name}, {head} (entropies unknown: {error})"
    if manifest.sha256 != sha256:
        return f"{name}, {head} (packed anew since, as {manifest.sha256[:SHORT]})"
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
