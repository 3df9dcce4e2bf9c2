"""Mutants of one-shot overrides: what they change, and what they must leave alone."""

from tests.mutants.mutant import Mutant, Test

KCONF = "tests/kconf/test_overrides.py"
RUNNER = "tests/matrix/launch/test_runner.py"
RERUN = "tests/matrix/plan/test_rerun.py"
TRIAL, REPORT = "tests/matrix/plan/test_trial.py", "tests/matrix/report/test_trial.py"

OVERRIDES = [
    Mutant(
        "trial-over-report",
        "the report of a trial takes the place of the study's",
        "report.trial:file",
        "if overrides else name",
        "if not name else name",
        Test(f"{REPORT}::test_a_trial_writes_files_of_its_own"),
    ),
    Mutant(
        "trial-unnamed",
        "a report does not say that it is a trial's",
        "report.trial:sentences",
        "if not overrides:",
        "if overrides:",
        Test(f"{REPORT}::test_a_trial_writes_files_of_its_own"),
    ),
    Mutant(
        "trial-unseen",
        "runs that overrides changed are the study's own",
        "plan.cells:_trial",
        "if symbol in changed",
        "if symbol in changed and symbol in tree.operational",
        Test(f"{TRIAL}::test_what_changes_the_runs_is_named"),
    ),
    Mutant(
        "trial-of-a-selection",
        "STEPS= and SEEDS= make a trial",
        "plan.cells:_trial",
        "checks.changed(plain, resolved, tree.operational)",
        "checks.changed(plain, resolved, frozenset())",
        Test(f"{TRIAL}::test_what_selects_or_changes_nothing_is_none"),
    ),
    Mutant(
        "rerun-of-what-is-exported",
        "a bare make rerun runs again what was exported for a study",
        "plan.rerun:is_chosen",
        "any(name in typed for name, _ in _choices(environment))",
        "bool(_choices(environment))",
        Test(f"{RERUN}::test_rerun_runs_what_is_named_and_done"),
    ),
    Mutant(
        "dry-run-of-all-steps",
        "DRY_RUN=1 STEPS=0 make checks every step",
        "matrix.run:_check",
        'not in (None, "all")',
        "is None",
        Test(f"{RUNNER}::test_dry_run_trains_nothing"),
    ),
    Mutant(
        "time-of-the-environment",
        "the format of GNU time is a budget",
        "overrides:one_shots",
        "name not in TYPED_ONLY or name in typed",
        "True",
        Test(f"{KCONF}::test_time_counts_on_the_command_line_alone"),
    ),
    Mutant(
        "symbol-without-prefix",
        "LEARNING_RATE=1e-3 trains at another rate",
        "overrides:refuse_bare",
        "name in identity and",
        "name not in identity and",
        Test(f"{KCONF}::test_a_symbol_without_its_prefix_is_named"),
    ),
    Mutant(
        "singular-trains",
        "STEP=2 trains every step",
        "matrix.run:_refuse_mistaken",
        "if environment.get(word):",
        "if environment.get(meant) == word:",
        Test(f"{RUNNER}::test_a_word_that_nothing_reads_trains_nothing"),
    ),
]

SECTIONS = {"One-shot overrides": OVERRIDES}
