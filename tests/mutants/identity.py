"""Slips in what counts for a run's identity."""

from tests.mutants.mutant import Mutant, Test

IMPORTS = "tests/records/test_imports.py"
TRAINED = "tests/records/test_trained_code.py"
CELLS = "tests/matrix/plan/test_cells.py"
ROWS = "tests/matrix/results/test_fairness_rows.py"

CODE = [
    Mutant(
        "child-not-followed",
        "what a run starts or chooses does not count",
        "codehash:Code.of",
        "if any(imports.holds(each, values) for each in conditions):",
        "if False:",
        Test(f"{TRAINED}::test_a_remark_in_what_trains[gpt2/data/loading/feeder.py]"),
    ),
    Mutant(
        "chosen-by-nobody",
        "what no symbol of the cell chooses counts",
        "codehash:Code.of",
        "if any(imports.holds(each, values) for each in conditions):",
        "if conditions:",
        Test(f"{TRAINED}::test_a_remark_in_what_trains[gpt2/distributed/torchrun.py]"),
    ),
    Mutant(
        "lazy-import-unseen",
        "an import in a function does not count",
        "records.imports:read",
        "for name in _imported(tree) if not",
        "for name in _imported(tree, FUNCTIONS) if not",
        Test(f"{IMPORTS}::test_imports_of_imports_and_the_packages_around_them"),
    ),
    Mutant(
        "packages-unseen",
        "the package around an imported module does not count",
        "records.imports:prefixes",
        "for i in range(len(parts))]",
        "for i in range(len(parts))][-1:]",
        Test(f"{IMPORTS}::test_imports_of_imports_and_the_packages_around_them"),
    ),
    Mutant(
        "table-counts",
        "a row for another optimizer makes every study new",
        "records.imports:read",
        "_table(statement), _without(data, statement)",
        "_table(statement), data",
        Test(f"{IMPORTS}::test_a_row_more_changes_no_file"),
    ),
    Mutant(
        "chosen-yet-always-imported",
        "a module that is imported always may be declared as chosen",
        "records.imports:read",
        "for name in _imported(tree, FUNCTIONS):",
        "for name in ():",
        Test(
            f"{IMPORTS}::test_what_cannot_be_followed_is_refused"
            "[CHOSEN = {'gpt2.a': ('YES',)}\\nimport gpt2.a-imports gpt2.a always]"
        ),
    ),
]
IDENTITY = [
    Mutant(
        "rule-not-recorded",
        "an identity does not say by which rule its code was hashed",
        "plan.cells:_cell",
        '        "code_rule": RULE,\n',
        "",
        Test(f"{CELLS}::test_hash_is_that_of_the_identity"),
    ),
    Mutant(
        "rule-unread",
        "hashes of two rules are compared file by file",
        "reasons:changed_parts",
        "if rules[0] != rules[1]:",
        "if False:",
        Test(f"{CELLS}::test_code_by_another_rule_is_other_code"),
    ),
    Mutant(
        "younger-symbol-counts",
        "a symbol that comes later makes every study new",
        "plan.cells:_cell",
        "operational | history.as_before(values)",
        "operational",
        Test(f"{CELLS}::test_a_symbol_that_came_later"),
    ),
    Mutant(
        "any-value-as-before",
        "a younger symbol counts at no value",
        "records.history:_stands_for",
        "return value is None or _same(value, former)",
        "return True",
        Test(f"{CELLS}::test_a_symbol_that_came_later"),
    ),
    Mutant(
        "files-of-two-rules",
        "the code of runs of two rules is compared by their files",
        "fairness:_by_files",
        "len(rules) == 1 and ",
        "",
        Test(f"{ROWS}::test_code_of_two_rules_is_compared_by_its_hash"),
    ),
    Mutant(
        "files-of-one-step-only",
        "a file counts only where every run ran it",
        "fairness:ledger",
        "sorted({path for each in files for path in each})",
        "sorted(set.intersection(*map(set, files)))",
        Test(f"{ROWS}::test_a_file_that_two_runs_of_an_arm_do_not_share"),
    ),
]

SECTIONS = {"The code of a cell": CODE, "The identity of a cell": IDENTITY}
