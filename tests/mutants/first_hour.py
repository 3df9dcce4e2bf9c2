"""Mutants of what a newcomer meets: names, plans without a corpus, new studies."""

from tests.mutants.mutant import Mutant, Test

NAMES = "tests/matrix/results/test_names.py"
CHECKOUT = "tests/matrix/plan/test_checkout.py"
UNPACKED = "tests/matrix/plan/test_unpacked.py"
NEW = "tests/kconf/test_new_study.py"
CLI = "tests/kconf/test_cli.py"

FIRST_HOUR = [
    Mutant(
        "names-any-seed",
        "seed-1 also means seed-10",
        "results.names:_matching",
        "found.seed == seed",
        "found.seed.startswith(seed)",
        Test(f"{NAMES}::test_a_cell_of_the_loaded_study"),
    ),
    Mutant(
        "names-begun-before-whole",
        "06-ra means 06-ra-golden as well",
        "results.names:_meant",
        "    if text in known:\n        return [text]\n",
        "",
        Test(f"{NAMES}::test_a_cell_of_the_loaded_study"),
    ),
    Mutant(
        "names-oldest",
        "of several hashes the oldest finished one is meant",
        "results.names:_one",
        "return max(done, key=_ended)",
        "return min(done, key=_ended)",
        Test(f"{NAMES}::test_a_cell_of_the_loaded_study"),
    ),
    Mutant(
        "names-first-of-several",
        "of several cells the first one is taken",
        "results.names:_one",
        "if len(cells) > 1:",
        "if False:",
        Test(f"{NAMES}::test_what_means_several_things"),
    ),
    Mutant(
        "names-newest-unfinished",
        "newest is a run that cannot be read",
        "results.names:run",
        "if _state(found) == DONE:",
        "if found:",
        Test(f"{NAMES}::test_the_newest"),
    ),
    Mutant(
        "names-every-study",
        "STEP/seed-K is looked up beyond the loaded study",
        "results.names:_matching",
        "if len(before) == 1 and any(",
        "if False and any(",
        Test(f"{NAMES}::test_what_means_several_things"),
    ),
    Mutant(
        "names-config-first",
        "a path needs a configuration that holds",
        "plan.loaded:run",
        "names.given_run(text) or names.run(results(root, environment), text)",
        "names.run(results(root, environment), text)",
        Test(f"{NAMES}::TestLoaded::test_a_path_needs_no_configuration_that_holds"),
    ),
    Mutant(
        "compare-steps-backwards",
        "of two steps A − B stands where B − A is said",
        "report.compare:_two_steps",
        "b - a for a, b",
        "a - b for a, b",
        Test("tests/matrix/report/test_compare.py::test_two_steps"),
    ),
    Mutant(
        "unpacked-trains",
        "a run needs no packed corpus either",
        "plan.cells:_corpus",
        "        if shared.packed:\n            raise\n",
        "",
        Test(f"{UNPACKED}::test_nothing_else_goes_on"),
    ),
    Mutant(
        "dirty-unsaid",
        "what is not committed is said after training",
        "plan.checkout:notes",
        "[*unused_steps(root, values), *uncommitted(root)]",
        "unused_steps(root, values)",
        Test(f"{CHECKOUT}::test_what_is_not_committed"),
    ),
    Mutant(
        "steps-unused-unsaid",
        "a folder of steps of a study under another name is passed over",
        "kconf.unused_steps:unused_steps",
        "name in used or",
        "name in studies or",
        Test(f"{CHECKOUT}::test_steps_that_are_not_used"),
    ),
    Mutant(
        "new-study-left-behind",
        "a study that does not hold stays in defconfigs/",
        "kconf.new_study:write",
        "            path.unlink()\n",
        "            pass\n",
        Test(f"{NEW}::test_what_does_not_hold_leaves_nothing_behind"),
    ),
    Mutant(
        "new-study-steps-of-another",
        "a new study selects the steps of the one that it was made from",
        "kconf.new_study",
        '"RA_MLA_ABLATION_STEPS", "PROMOTE_NAMED"',
        '"PROMOTE_NAMED",',
        Test(f"{NEW}::test_what_does_not_come_along"),
    ),
    Mutant(
        "text-too-short",
        "a text shorter than an evaluation is taken",
        "kconf.own_text:require_length",
        "if held < needed:",
        "if not held:",
        Test(f"{CLI}::test_a_text_of_the_users"),
    ),
    Mutant(
        "check-unselected",
        "make check proves steps that .config does not select",
        "check.studies:loaded",
        'if whole or selection == "all":',
        "if selection:",
        Test(
            "tests/gpt2/check/test_studies.py"
            "::test_the_loaded_study_has_the_steps_that_are_selected"
        ),
    ),
]

SECTIONS = {"The first hour": FIRST_HOUR}
