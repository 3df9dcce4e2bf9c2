"""Mutants of what a run leaves behind, and of the variables that it is given."""

from tests.mutants.mutant import Mutant, Test

PREPARE = "tests/gpt2/data/packing/test_prepare.py"
PRESETS = "tests/kconf/test_presets.py"

LEFT = [
    Mutant(
        "lock-of-nothing",
        "whoever waited for a lock that is gone goes in beside the next holder",
        "packing.prepare:_locked",
        "if not _names(path, file.fileno()):",
        "if False:",
        Test(f"{PREPARE}::test_a_lock_that_was_removed_is_no_lock"),
    ),
    Mutant(
        "lock-stays",
        "the lock of a packed corpus stays in the data folder",
        "packing.prepare:_locked",
        "                    path.unlink()",
        "                    pass",
        Test(f"{PREPARE}::test_one_at_a_time_holds_the_lock"),
    ),
    Mutant(
        "one-broken-study-hides-all",
        "the list of defconfigs ends at the first broken study",
        "kconf.presets:_readable",
        "        findings += error.findings",
        "        raise",
        Test(f"{PRESETS}::test_a_broken_study_does_not_hide_the_others[no_help]"),
    ),
]

SECTIONS = {"What stays, and what is honoured": LEFT}
