"""Mutants of the fairness ledger: every row of it, and how its lines are made."""

from tests.mutants.mutant import Mutant, Test

TESTS = "tests/matrix/results/test_fairness_rows.py"

# The value of a row, where it stands, and where else it might be taken from.
PATHS = {
    "code hash": ("code_hash", "run.cell.identity.code", "run.cell.identity.config"),
    "dataset": ("dataset_sha256", "run.cell.identity.dataset", "run.data_dir"),
    "budget": ("budget", "summary.facts.budget", "summary.stopped_by"),
    "end of training": ("stopped_by", "summary.stopped_by", "summary.status"),
    "tokens per step": (
        "tokens_per_step",
        "summary.facts.tokens_per_step",
        "summary.tokens_per_s",
    ),
    "effective batch": (
        "effective_batch",
        "summary.facts.effective_batch",
        "summary.facts.micro_batch",
    ),
    "context": ("context", "config.GPT2_BLOCK_SIZE", "summary.facts.block_size"),
    "documents apart": (
        "documents_apart",
        "config.DOCUMENTS_APART",
        "summary.facts.documents_apart",
    ),
    "max_iters": ("max_iters", "summary.facts.max_iters", "config.GPT2_MAX_ITERS"),
    "time limit": ("time_limit", "config.GPT2_MAX_TIME", "summary.facts.max_time"),
    "tokens trained": ("tokens", "summary.tokens", "summary.facts.tokens"),
    "optimizer steps": ("steps", "summary.step", "summary.final_eval.step"),
    "evaluation windows": (
        "eval_windows",
        "config.GPT2_EVAL_WINDOWS",
        "summary.facts.eval_windows",
    ),
    "evaluation interval": (
        "eval_interval",
        "config.GPT2_EVAL_INTERVAL",
        "config.LOG_INTERVAL",
    ),
    "evaluation text": (
        "eval_sha256",
        "summary.facts.eval_sha256",
        "summary.facts.init_sha256",
    ),
    "dtype": ("dtype", "summary.facts.dtype", "summary.facts.param_dtype"),
    "compile": ("compile", "summary.facts.compile", "summary.facts.compiled"),
    "device": ("device", "summary.device.name", "summary.device.kind"),
    "runtime": ("driver", "summary.device.driver", "summary.device.peak_flops"),
    "driver": (
        "kernel_driver",
        "summary.device.kernel_driver",
        "summary.device.peak_flops",
    ),
    "processes": ("ranks", "summary.facts.ranks", "summary.facts.accumulation"),
    "processor": ("processor", "run.provenance.cpu", "run.provenance.platform"),
    "threads": ("threads", "summary.threads", "run.cell.identity.threads"),
    "torch": ("torch", "summary.torch", "run.provenance.packages.torch"),
    "python": ("python", "summary.python", "run.provenance.python"),
}


def row(name: str) -> Mutant:
    """The row reads another record."""
    value, path, other = PATHS[name]
    return Mutant(
        f"ledger-{name.replace(' ', '-')}",
        f"the row {name!r} reads {other}",
        "results.recorded",
        f'"{value}": "{path}"',
        f'"{value}": "{other}"',
        Test(f"{TESTS}::test_a_row[{name}]"),
    )


LINES = [
    Mutant(
        "ledger-any-time-budget",
        "one run with a time budget frees the tokens of all",
        "fairness:differences",
        'for run in runs} == {"time"}',
        'for run in runs} >= {"time"}',
        Test(f"{TESTS}::test_what_a_time_budget_frees[tokens trained]"),
    ),
    Mutant(
        "ledger-steps-of-a-time-budget",
        "a time budget frees the tokens and not the steps",
        "fairness:differences",
        'skipped += ["tokens", "steps"]',
        'skipped += ["tokens"]',
        Test(f"{TESTS}::test_what_a_time_budget_frees[optimizer steps]"),
    ),
    Mutant(
        "ledger-processor-beside-a-gpu",
        "the processor must match where one arm has a GPU",
        "fairness:differences",
        'for run in runs} != {"cpu"}',
        'for run in runs} == {"cuda"}',
        Test(f"{TESTS}::test_beside_a_gpu_the_processor_may_differ[kinds1]"),
    ),
    Mutant(
        "ledger-rarest-elsewhere",
        "the rarest value is the usual one",
        "fairness:rarer_values",
        "most_common(1)[0][0]",
        "most_common()[-1][0]",
        Test(f"{TESTS}::test_who_has_which_value"),
    ),
    Mutant(
        "ledger-half-digests",
        "a digest of 39 digits is shortened",
        "fairness:shown",
        "len(text) >= 40",
        "len(text) >= 39",
        Test(f"{TESTS}::test_how_a_value_is_shown[{'ab' * 19}a-{'ab' * 19}a]"),
    ),
    Mutant(
        "ledger-two-resumptions",
        "one resumption under another torch is let pass",
        "fairness:resumed_elsewhere",
        "len(values) > 1",
        "len(values) > 2",
        Test(
            f"{TESTS}::test_a_run_that_was_resumed_under_another"
            "[torch-values0-2.13.0, then 2.11.0]"
        ),
    ),
    Mutant(
        "ledger-shares-with-itself",
        "a cell counts among those that it shared a GPU with",
        "fairness:shared_gpus",
        "max(sharing) - 1",
        "max(sharing)",
        Test(f"{TESTS}::test_runs_that_shared_a_gpu"),
    ),
    Mutant(
        "ledger-device-of-the-last-attempt",
        "attempts on another device are not told apart",
        "results.run:_machines",
        '(row.get("device") or {}).get("name")',
        '(row.get("device") or {}).get("kind")',
        Test(
            f"{TESTS}::test_a_run_that_was_resumed_under_another"
            "[device-values2-a board, then another]"
        ),
    ),
    Mutant(
        "ledger-fairness-of-one-side",
        "make compare reads the rows of the first study twice",
        "report.compare:_fairness",
        "for each in (left, right)",
        "for each in (left, left)",
        Test(f"{TESTS}::test_every_row_of_a_comparison"),
    ),
]

SECTIONS = {"The fairness ledger": [*map(row, PATHS), *LINES]}
