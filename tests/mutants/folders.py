"""Mutants of what a corpus folder takes, refuses and says."""

from tests.mutants.mutant import Mutant, Test

TESTS = "tests/gpt2/data/sources/test_folder.py"

FOLDERS = [
    Mutant(
        "folder-json-as-text",
        "a .json file is one document",
        "folder",
        ".csv .tsv .json .arrow",
        ".csv .tsv .arrow",
        Test(f"{TESTS}::test_a_name_says_what_a_file_holds"),
    ),
    Mutant(
        "folder-papers-packed",
        "README and LICENSE beside records are documents",
        "folder:corpus_files",
        "if kind == TEXT and records and",
        "if kind == TEXT and not records and",
        Test(f"{TESTS}::test_the_papers_of_a_data_set_are_no_documents"),
    ),
    Mutant(
        "folder-name-before-rule",
        "a file's name decides before CONFIG_LOCAL_FILES",
        "folder:corpus_files",
        "ruled(name) or kind_of(name)",
        "kind_of(name) or ruled(name)",
        Test(f"{TESTS}::test_a_rule_stands_above_the_name"),
    ),
    Mutant(
        "folder-list-by-last-part",
        "a listed path leaves out every file of its name",
        "folder:corpus_files",
        "if name in found if found is not None",
        "if name in found or part in found if found is not None",
        Test(f"{TESTS}::test_the_first_rule_that_fits_decides"),
    ),
    Mutant(
        "folder-order-of-paths",
        "CONFIG_LOCAL_SHUFFLE does not arrive",
        "corpora:documents",
        "shuffled=settings.local_shuffle",
        "shuffled=False",
        Test(f"{TESTS}::test_what_a_budget_leaves_out_is_said"),
    ),
    Mutant(
        "folder-first-fault-alone",
        "the scan stops at the first file that cannot be read",
        "sources.local:local_documents",
        "            if faults is None:\n                raise\n",
        "            raise\n",
        Test(f"{TESTS}::test_bytes_serve_where_the_tokenizer_reads_bytes"),
    ),
    Mutant(
        "folder-utf8-unasked",
        "text that is no UTF-8 is found while it is packed, file by file",
        "corpora:documents",
        'utf8=settings.tokenizer != "byte"',
        "utf8=False",
        Test(f"{TESTS}::test_every_unusable_file_is_named_at_once"),
    ),
    Mutant(
        "folder-budget-unsaid",
        "a budget ends packing in silence",
        "packing.build:build",
        "packed < (origin.source.documents or 0)",
        "packed > (origin.source.documents or 0)",
        Test(f"{TESTS}::test_what_a_budget_leaves_out_is_said"),
    ),
    Mutant(
        "folder-damaged-without-text",
        "a damaged dataset serves when its text is gone",
        "packing.prepare:examine",
        "reason = _stale(settings, directory, source)",
        "reason = None if gone else _stale(settings, directory, source)",
        Test(f"{TESTS}::test_a_damaged_one_does_not"),
    ),
]

SECTIONS = {"Folders of a corpus": FOLDERS}
