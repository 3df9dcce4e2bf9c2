"""The report as a document: its sections in their order.

A section is a function of the report that gives one, or None where the report has
nothing for it; a plot stands in the section of its own file or of its subject.
"""

from typing import Callable

from matrix.evidence.gather import Report
from matrix.report import arm_tables, equal_time, evaluation_section, overview
from matrix.report import half_lives, tables, tuning_section, verdict_section
from matrix.report.document import Block, Document, Notice, Picture, Section, Text
from matrix.report.plots import attention_statistics, final_losses, learning_curves
from matrix.report.plots import learning_rates, loss_against_cost, sparsity
from matrix.report.plots import sparse_choices, speed_memory, training_curves

NO_SPEEDS = (
    "Speeds, times and energy are not printed, nor are losses at equal training time: "
    "what was measured is of all that ran on the device."
)


def losses(report: Report) -> Section:
    """Final losses, their differences, and the curves that lead there."""
    k = report.selection.terms.last_evals
    of = "the last evaluation" if k == 1 else f"the mean of the last {k} evaluations"
    text = (
        f"Validation loss: {of} of each run, mean over the seeds. SD: standard "
        "deviation over the seeds (n−1). Difference: step minus control over the "
        "seeds that both have; negative where the step's loss is the lower one. Losses "
        "and differences are in nats/token. "
        "Runs: where the number comes from (last section)."
    )
    table = tables.loss_table(report.rows, len(report.study.seeds))
    pictures = [final_losses.picture(report.rows)]
    if report.study.configured:
        pictures.insert(0, learning_curves.picture(report.rows))
    return Section("Validation loss", (Text(text), table, *pictures))


def size(report: Report) -> Section:
    """What each step's model is."""
    text = (
        "FLOPs/token count attention in full. Cache: values kept per token, after the "
        "plus sign those that do not grow with the context."
    )
    blocks = [Text(text), tables.size_table(report.rows)]
    caches = tables.cache_table(report.rows)
    if len({line[1:-1] for line in caches.rows}) > 1:
        text = (
            "Cache of one sequence of so many tokens, in the compute type and states in "
            "fp32, were the context as long."
        )
        blocks += [Text(text), caches]
    return Section("Size", tuple(blocks))


def time_and_memory(report: Report) -> Section | None:
    """Time, memory and energy: the words, the table, the plot; None where nobody can
    tell whether runs shared a GPU.
    """
    if not report.study.configured:
        return None
    text = (
        "Means over the seeds; wall time is that of all attempts of a run that ended "
        "by themselves; a killed attempt records no end. Tokens/s: of all GPUs of a run "
        "together. Peak memory: of one of them, rank 0's, the maximum over the seeds."
    )
    if report.shared:
        text += f" {NO_SPEEDS}"
    elif any(run.value("energy_joules") for run in report.counted):
        text += (
            " Energy: the power of all GPUs of a run, integrated over its samples "
            "(gpu.jsonl) of all attempts; per token trained on."
        )
    else:
        text += " Energy was not measured: no run has samples (gpu.jsonl)."
    blocks: list[Block] = [Text(text)]
    if report.shared:
        blocks.append(Notice("Runs that shared a device", report.shared))
    blocks.append(tables.speed_table(report.rows))
    gaps = [
        f"{run.step} seed {run.seed}: {run.value('energy_remark')} ({run.run_dir})"
        for run in report.counted
        if run.value("energy_remark")
    ]
    if gaps:
        blocks.append(Notice("Energy that was not measured", tuple(gaps)))
    picture = speed_memory.picture(report.rows)
    return Section("Time and memory", (*blocks, *([picture] if picture else [])))


def runs(report: Report) -> Section:
    """Where every number comes from."""
    return Section("Runs", (tables.runs_table(report.rows),))


SECTIONS: tuple[Callable[[Report], Section | None], ...] = (
    overview.section,
    verdict_section.section,
    tuning_section.section,
    losses,
    training_curves.section,
    overview.setup,
    arm_tables.arms_section,
    arm_tables.seeds_section,
    learning_rates.section,
    arm_tables.excluded_section,
    evaluation_section.section,
    size,
    time_and_memory,
    loss_against_cost.section,
    sparsity.section,
    attention_statistics.section,
    sparse_choices.section,
    half_lives.section,
    equal_time.section,
    runs,
    overview.provenance,
)


def document_of(report: Report) -> tuple[Document, tuple[Picture, ...]]:
    """The document, and the pictures in it."""
    made = [section for make in SECTIONS if (section := make(report)) is not None]
    blocks = [block for section in made for block in section.blocks]
    pictures = tuple(block for block in blocks if isinstance(block, Picture))
    return Document(f"Study {report.study.name}", tuple(made)), pictures
