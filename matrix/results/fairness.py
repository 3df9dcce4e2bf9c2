"""The fairness ledger: what must match between runs that are compared, and does not.

What may differ by design (parameters, FLOPs, memory, time) is not here; it
stands beside the losses in the report.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from matrix import units
from matrix.results.run import Run

MUST_MATCH = (
    ("code hash", "code_hash"),
    ("dataset", "dataset_sha256"),
    ("budget", "budget"),
    ("end of training", "stopped_by"),
    ("tokens per step", "tokens_per_step"),
    ("effective batch", "effective_batch"),
    ("micro-batch", "micro_batch"),
    ("context", "context"),
    ("documents apart", "documents_apart"),
    ("max_iters", "max_iters"),
    ("time limit", "time_limit"),
    ("tokens trained", "tokens"),
    ("optimizer steps", "steps"),
    ("evaluation windows", "eval_windows"),
    ("evaluation interval", "eval_interval"),
    ("evaluation text", "eval_sha256"),
    ("last evaluation's text", "last_eval_sha256"),
    ("dtype", "dtype"),
    ("dtype of the parameters", "param_dtype"),
    ("loss computation", "loss_impl"),
    ("update", "update_impl"),
    ("compile", "compile"),
    ("device", "device"),
    ("runtime", "driver"),
    ("driver", "kernel_driver"),
    ("processes", "ranks"),
    ("processor", "processor"),
    ("threads", "threads"),
    ("torch", "torch"),
    ("triton", "triton"),
    ("environment", "environment"),
    ("python", "python"),
)
ABSENT = "not recorded"
CHOICE = "OPTIMIZER_"
SHORT = 12
HEX = frozenset("0123456789abcdef")


def differences(runs: Sequence[Run]) -> list[str]:
    """One line per property that is not the same in all runs.

    Under a time budget the tokens trained may differ and are not looked at; otherwise
    the processor beside a GPU is not, nor how optimizers that differ take their steps.
    """
    skipped: list[str] = []
    timed = {run.value("budget") for run in runs} == {"time"}
    if timed:
        skipped += ["tokens", "steps"]
    if not timed and {run.value("device_kind") for run in runs} != {"cpu"}:
        skipped.append("processor")
    if len({optimizer(run) for run in runs}) > 1:
        skipped.append("update_impl")
    lines = []
    for title, name, having in ledger(runs):
        values = {run.run_dir: value for run, value in having}
        if name not in skipped and len(set(values.values())) > 1:
            lines.append(f"{title}: {rarer_values([run for run, _ in having], values)}")
    return lines


def optimizer(run: Run) -> tuple[str, ...]:
    """The name of a run's optimizer, "adamw"; () where it is not recorded."""
    config = run.documents.get("config", {})
    chosen = (symbol for symbol, value in config.items() if value is True)
    names = (s.removeprefix(CHOICE) for s in chosen if s.startswith(CHOICE))
    return tuple(sorted(name.lower() for name in names if name != "HAS_MOMENTS"))


def hosts(runs: Sequence[Run]) -> list[str]:
    """A line where the processors beside GPUs are not the same: it decides nothing."""
    values = {
        run.run_dir: f"{shown(run.value('processor'))}, "
        f"cores: {shown(run.value('cores'))}"
        for run in runs
    }
    if len(set(values.values())) < 2:
        return []
    return [f"processors: {rarer_values(runs, values)}"]


def ledger(
    runs: Sequence[Run],
) -> Iterator[tuple[str, str, list[tuple[Run, str]]]]:
    """(title, name, each run with its value as shown) of every property; of the code a
    row per file that is not the same in all runs that ran it.

    The code of arms differs by design: another optimizer is another file.
    """
    for title, name in MUST_MATCH:
        if name != "code_hash" or not _by_files(runs):
            yield title, name, [(run, shown(run.value(name))) for run in runs]
            continue
        files = [run.value("code_files") for run in runs]
        for file in sorted({path for each in files for path in each}):
            having = [
                (run, each[file]) for run, each in zip(runs, files) if file in each
            ]
            if len({digest for _, digest in having}) > 1:
                yield f"code, {file}", name, [(run, shown(d)) for run, d in having]


def _by_files(runs: Sequence[Run]) -> bool:
    """Whether all runs record the files of their code, found by one rule."""
    rules = {run.value("code_rule") or 1 for run in runs}
    return len(rules) == 1 and all(run.value("code_files") for run in runs)


def resumed_elsewhere(runs: Sequence[Run]) -> list[str]:
    """One line per run that was resumed under another torch, Python or device."""
    lines = []
    for run in runs:
        for name, values in run.software.items():
            if len(values) > 1:
                order = ", then ".join(map(str, values))
                lines.append(
                    f"{run.step} seed {run.seed} was resumed under another {name}: "
                    f"{order} ({run.run_dir})"
                )
    return lines


def other_ends(runs: Sequence[Run]) -> list[str]:
    """One line per way in which runs ended other than by their budget."""
    names = ("budget", "stopped_by")
    ends = {run.run_dir: tuple(map(run.value, names)) for run in runs}
    lines = []
    for budget, end in units.distinct(ends.values()):
        if end is None or budget == end:
            continue
        count = sum(found == (budget, end) for found in ends.values())
        cause = f"ended by {end}"
        if (budget, end) == ("time", "tokens"):
            cause = "reached CONFIG_GPT2_MAX_ITERS before the time was over: raise it"
        lines.append(f"{units.plural(count, 'run')} with the budget {budget!r} {cause}")
    return lines


def shared_gpus(runs: Sequence[Run]) -> list[str]:
    """A line where cells ran side by side on a GPU: their speeds are none."""
    counts = [run.value("runs_per_gpu") for run in runs]
    sharing = [count for count in counts if count and count > 1]
    if not sharing:
        return []
    return [
        f"{units.plural(len(sharing), 'run')} shared a GPU with up to "
        f"{units.plural(max(sharing) - 1, 'other cell')} (CONFIG_RUNS_PER_GPU): speeds "
        "and step times are no evidence, and energy counts the power of all of them"
    ]


def shown(value: object) -> str:
    """A value in a line of text; a digest by its first 12 digits."""
    if value is None:
        return ABSENT
    if isinstance(value, Mapping):
        return units.assigned(value)
    text = str(value)
    digest = len(text) >= 40 and HEX.issuperset(text)
    return text[:SHORT] if digest else text


def rarer_values(runs: Sequence[Run], values: dict[str, str]) -> str:
    """The rarer values with their steps and seeds, the usual one "elsewhere"."""
    usual = Counter(values.values()).most_common(1)[0][0]
    parts = []
    for value in units.distinct(values.values()):
        if value == usual:
            continue
        steps = []
        for step in units.distinct(run.step for run in runs):
            here = [run for run in runs if run.step == step]
            seeds = [run.seed for run in here if values[run.run_dir] == value]
            if len(seeds) == len(here):
                steps.append(step)
            elif seeds:
                noun = "seed" if len(seeds) == 1 else "seeds"
                steps.append(f"{step} ({noun} {units.numbers_in(seeds)})")
        parts.append(f"{value} in {', '.join(steps)}")
    return f"{'; '.join(parts)}; {usual} elsewhere"
