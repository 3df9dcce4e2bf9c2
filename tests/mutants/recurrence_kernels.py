"""Mutants of the recurrence's kernels, and of what chooses them."""

from tests.mutants.mutant import Mutant, Test

KERNEL = "tests/kernels/test_recurrence_kernel.py::test_close_to_float64"
STEPS = "tests/kernels/test_recurrence_steps.py"
DECAY, DELTA, STRONG, BOTH, ALIKE = (
    Test(f"{KERNEL}[{case}]") for case in ("decay", "delta", "strong", "both", "alike")
)

MUTANTS = [
    Mutant(
        "rec-kernel-erases-itself",
        "a token erases what it is about to write",
        "kernel_solve:erased",
        "_pairs(b_C, low_C, starts_C, C, False, True)",
        "_pairs(b_C, low_C, starts_C, C, False, False)",
        DELTA,
    ),
    Mutant(
        "rec-kernel-unsolved",
        "what is erased within a chunk is not solved for",
        "recurrence.kernel:mix",
        "out = _dot(_inverse_tile(R, C, REVERSED), out.to(b.dtype))",
        "out += 0.0",
        DELTA,
    ),
    Mutant(
        "rec-kernel-one-order",
        "going back solves with the inverse of going forth",
        "recurrence.kernel:mix",
        "_inverse_tile(R, C, REVERSED)",
        "_inverse_tile(R, C, False)",
        DELTA,
    ),
    Mutant(
        "rec-kernel-block-left-out",
        "a block of the inverse leaves out the way over another",
        "kernel_solve:inverse",
        "_dot(m30, r00, _dot(m31, r10, _dot(m32, r20)))",
        "_dot(m30, r00, _dot(m32, r20))",
        ALIKE,
    ),
    Mutant(
        "rec-kernel-first-order",
        "the inverse of a diagonal block is I - M",
        "kernel_solve:_diagonal",
        "less = tl.sum(m_i[:, None] * found, 0)",
        "less = m_i",
        ALIKE,
    ),
    Mutant(
        "rec-kernel-foreign-state",
        "the state enters a chunk for every document in it",
        "recurrence.kernel_tiles:_edge",
        "starts_C < 0",
        "starts_C < C",
        DECAY,
    ),
    Mutant(
        "rec-kernel-foreign-keys",
        "what leaves a chunk is of all its documents",
        "recurrence.kernel_tiles:_edge",
        "start_last <= tl.arange(0, C)",
        "start_last <= tl.arange(0, C) + C",
        DECAY,
    ),
    Mutant(
        "rec-kernel-state-passes",
        "the state passes through the beginning of a document",
        "recurrence.kernel:states",
        "_masked(b_last, start_last < 0)",
        "tl.exp(b_last)",
        DECAY,
    ),
    Mutant(
        "rec-kernel-foreign-pairs",
        "a token reads those of another document",
        "recurrence.kernel_tiles:_pairs",
        "(there <= here) & (starts_C[:, None] <= there)",
        "there <= here",
        DECAY,
    ),
    Mutant(
        "rec-kernel-lost-digits",
        "decays between tokens are differences of rounded sums",
        "recurrence.kernel_tiles:_pairs",
        "b_C[:, None] - b_C[None, :] + (low_C[:, None] - low_C[None, :])",
        "b_C[:, None] - b_C[None, :]",
        STRONG,
    ),
    Mutant(
        "rec-kernel-decays-late",
        "what leaves a chunk is decayed from its first token on",
        "recurrence.kernel_tiles:_edge",
        "x = b_last - b_C + (low_last - low_C)",
        "x = b_last + 0.0 * b_C",
        DECAY,
    ),
    Mutant(
        "rec-kernel-half-of-dg",
        "the gradient of a decay leaves out the tokens that are read",
        "recurrence.kernel:decays",
        "tl.sum(found, 1) - tl.sum(found, 0)",
        "tl.sum(found, 1)",
        DECAY,
    ),
    Mutant(
        "rec-kernel-dg-of-a-chunk",
        "the gradient of a decay ends with the chunk",
        "recurrence.kernel:decays",
        "passes + tl.sum(leaves_C)",
        "0.0 * passes",
        BOTH,
    ),
    Mutant(
        "rec-kernel-sign-of-de",
        "the gradient of what is erased has the wrong sign",
        "recurrence.launch:backward",
        '{"STRICT": True, "STRICTER": True, "NEGATED": True}',
        '{"STRICT": True, "STRICTER": True, "NEGATED": False}',
        DELTA,
    ),
    Mutant(
        "rec-kernel-not-stricter",
        "the gradient of a key holds what its own token erased",
        "recurrence.launch:backward",
        '{"REVERSED": True, "STRICTER": True}',
        '{"REVERSED": True, "STRICTER": False}',
        DELTA,
    ),
    Mutant(
        "recurrence-impl-unheard",
        "CONFIG_MIXER_IMPL does not arrive at the recurrence",
        "recurrence.run:run",
        'if impl == "reference" or',
        "if True or",
        Test(f"{STEPS}::test_a_model_by_our_kernels_is_the_model"),
    ),
    Mutant(
        "recurrence-impl-anywhere",
        "auto takes kernels on a CPU",
        "mixers.recurrence_impl:resolve_recurrence",
        'kind == "cuda" and "head" in kinds',
        '"head" in kinds',
        Test(f"{STEPS}::test_auto_resolves_once_by_device"),
    ),
    Mutant(
        "recurrence-impl-later",
        "an implementation that is not there is accepted",
        "settings.model:ModelSettings._reject_recurrence",
        'if self.mixer_impl == "fla":',
        "if False:",
        Test(f"{STEPS}::test_what_cannot_serve_is_refused[fla]"),
    ),
]

SECTIONS = {"Kernels of the recurrence": MUTANTS}
