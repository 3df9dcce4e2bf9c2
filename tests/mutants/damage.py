"""Mutants of the one reader of each record, and of what a damaged one may do."""

from tests.mutants.mutant import Mutant, Test

FIELDS, LEASE = "tests/records/test_fields.py", "tests/records/test_lease.py"
CELL, DAMAGED = "tests/records/test_cell.py", "tests/matrix/results/test_damaged.py"

DAMAGE = [
    Mutant(
        "field-unchecked",
        "what a field holds is not looked at",
        "records.kinds:fields",
        "                check(item)\n",
        "",
        Test(f"{FIELDS}::test_the_message_names_the_field"),
    ),
    Mutant(
        "field-not-needed",
        "a field that readers need may be absent",
        "records.kinds:fields",
        "if not needed <= value.keys():",
        "if False:",
        Test(f"{FIELDS}::test_what_readers_need_must_be_there"),
    ),
    Mutant(
        "number-nan",
        "NaN is a number like any other",
        "records.kinds:number",
        "or not low <= value <= high",
        "or value < low or value > high",
        Test(f"{FIELDS}::test_the_message_names_the_field"),
    ),
    Mutant(
        "flag-is-a-number",
        "true is a step",
        "records.kinds:integer",
        "type(value) is not int",
        "not isinstance(value, int)",
        Test(f"{FIELDS}::test_the_message_names_the_field"),
    ),
    Mutant(
        "pipe-is-a-file",
        "a pipe is read like a file",
        "records.files:open_record",
        "if stat.S_ISREG(mode):",
        "if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):",
        Test(f"{FIELDS}::test_what_is_no_file_is_not_waited_for"),
    ),
    Mutant(
        "line-in-the-making",
        "what is added to a line while it is read is read as a line of its own",
        "records.files:lines",
        'if not line.endswith(b"\\n"):',
        "if not line:",
        Test(
            "tests/records/test_jsonl.py::test_a_line_that_is_being_written_is_the_last"
        ),
    ),
    Mutant(
        "row-half-used",
        "a row of another kind is passed over like a torn one",
        "jsonl:Reader.row",
        "raise self._damaged(self._number, str(unfit)) from None",
        "return None",
        Test(f"{FIELDS}::test_a_damaged_row_is_named_wherever_it_stands"),
    ),
    Mutant(
        "row-before-the-last",
        "of two rows of a step the first counts",
        "records.columns:Series.settle",
        "last = place == len(order) or steps[order[place]] != steps[here]",
        "last = place == 1 or steps[order[place - 2]] != steps[here]",
        Test(f"{DAMAGED}::test_the_last_row_of_a_step_counts"),
    ),
    Mutant(
        "rows-beyond-the-end",
        "rows beyond the end of a finished run count",
        "records.columns:Series.settle",
        "if last and counts(steps[here]):",
        "if last:",
        Test(f"{CELL}::test_rows_beyond_the_end_of_a_finished_cell_are_left_out"),
    ),
    Mutant(
        "future-beat-young",
        "a heartbeat from the future is young",
        "lease:_holder_elsewhere",
        "abs(time.time() - holder.beat)",
        "time.time() - holder.beat",
        Test(f"{LEASE}::test_another_hosts_heartbeat_decides"),
    ),
    Mutant(
        "skew-unsaid",
        "a clock that is ahead is not spoken of",
        "lease:skew",
        "if ahead < STALE:",
        "if True:",
        Test(f"{DAMAGED}::test_a_clock_that_is_ahead_is_said"),
    ),
    Mutant(
        "damaged-runs",
        "a damaged cell is run again, over its records",
        "cells:Plan.pending",
        'settled = {"done", DAMAGED}',
        'settled = {"done"}',
        Test(f"{DAMAGED}::test_the_plan_leaves_a_damaged_cell_alone"),
    ),
    Mutant(
        "copied-seed-counts",
        "a copy under another seed's name is another seed",
        "whole_run:_require_its_own",
        "if wanted != here:",
        "if False:",
        Test(f"{DAMAGED}::test_a_directory_of_another_run_is_none"),
    ),
    Mutant(
        "foreign-summary-counts",
        "a summary of another cell counts",
        "whole_run:_require_its_own",
        'cell.summary["hash"] != told["hash"]',
        "False",
        Test(f"{DAMAGED}::test_every_command_names_file_and_field"),
    ),
]

SECTIONS = {"Damaged records": DAMAGE}
