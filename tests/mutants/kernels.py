"""Mutants of the attention kernels' rows: statistics, documents, routing."""

from tests.mutants.mutant import Mutant, Test

ATTENTION, ROUTING = "kernels/attention", "kernels/topk_routing"
ROWS = "tests/kernels/test_attention_rows.py"
STEPS = "tests/kernels/test_attention_steps.py"

ROW_MUTANTS = [
    Mutant(
        "row-cut-at-the-last",
        "the gradient of the top-k mass leaves out the k-th key",
        f"{ATTENTION}/kernel_statistics.py",
        "cut = 0.5 * best + 0.5 * before",
        "cut = before",
        Test(f"{ROWS}::test_statistic_alone_and_twice[topk]"),
    ),
    Mutant(
        "row-entropy-sign",
        "the gradient of the entropy has the other sign",
        f"{ATTENTION}/launch.py",
        '"entropy": (ENTROPY.value, -1.0, 1.0)',
        '"entropy": (ENTROPY.value, 1.0, 1.0)',
        Test(f"{ROWS}::test_statistic_alone_and_twice[entropy]"),
    ),
    Mutant(
        "row-delta-forgotten",
        "delta does not know of the statistic",
        f"{ATTENTION}/launch.py",
        "whole = dvalue * value * (-degree * variant.scale)",
        "whole = 0.0 * dvalue",
        Test(f"{ROWS}::test_statistic_alone_and_twice[topk]"),
    ),
    Mutant(
        "document-one-before",
        "a row sees the last token of the document before its own",
        f"{ATTENTION}/kernel_tiles.py",
        "reach = tl.minimum(t - start + 1, window)",
        "reach = tl.minimum(t - start + 2, window)",
        Test(f"{ROWS}::test_documents_are_apart"),
    ),
    Mutant(
        "document-ends-early",
        "keys hear nothing from the rows of their document",
        f"{ATTENTION}/launch.py",
        "torch.searchsorted(starts, starts, right=True, out_int32=True)",
        "torch.searchsorted(starts, starts, right=False, out_int32=True)",
        Test(f"{ROWS}::test_documents_are_apart"),
    ),
    Mutant(
        "routing-ties-last",
        "of keys with equal weights the routing keeps the latest",
        f"{ROUTING}/kernel.py",
        "above = value > values[i]",
        "above = value >= values[i]",
        Test("tests/kernels/test_topk_routing.py::test_of_equals_the_earlier"),
    ),
    Mutant(
        "auto-without-kernels",
        "auto takes the reference on a GPU",
        "gpt2/attention/impl.py",
        'return "triton"',
        'return "reference"',
        Test(f"{STEPS}::test_auto_takes_what_serves[5]"),
    ),
    Mutant(
        "kernels-unscaled-queries",
        "RA-CT on the scores forgets to scale them on our kernels",
        "gpt2/attention/attention.py",
        "q_BTHD = (_per_query(gate.factor(rows[gate.kind])) * q_BTHD).to(q_BTHD)",
        "q_BTHD = q_BTHD + 0.0 * _per_query(gate.factor(rows[gate.kind]))",
        Test(f"{STEPS}::test_equal_to_the_reference[17]"),
    ),
]

SECTIONS = {"Rows of the attention kernels": ROW_MUTANTS}
