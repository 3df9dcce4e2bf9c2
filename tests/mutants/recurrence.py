"""Mutants of the recurrence and of the mixers that are made of it."""

from tests.mutants.mutant import Mutant, Test

RECURRENCE = "tests/kernels/test_recurrence.py"
LOOP = Test(f"{RECURRENCE}::test_chunks_are_the_loop")

RECURRENCE_MUTANTS = [
    Mutant(
        "recurrence-no-solve",
        "what is erased is that of the chunk's first state alone",
        "recurrence.chunked:_mixed",
        "torch.linalg.solve_triangular(A_ec, right, upper=False, unitriangular=True)",
        "right",
        LOOP,
    ),
    Mutant(
        "recurrence-erases-after-writing",
        "a token erases what it has written itself",
        "recurrence.chunked:_mixed",
        "torch.where(masks.strict, decay.scores(e, k), 0.0)",
        "torch.where(masks.seen, decay.scores(e, k), 0.0)",
        LOOP,
    ),
    Mutant(
        "recurrence-decays-what-is-new",
        "a token's decay acts on its own key and value",
        "recurrence.decay:HeadDecay.__init__",
        "_sums(g_xC1, j, i)",
        "_sums(g_xC1, j - 1, i)",
        LOOP,
    ),
    Mutant(
        "recurrence-enters-whole",
        "what enters a chunk is read as if its first token let all of it stand",
        "recurrence.decay:_ends",
        "torch.full_like(t_C, -1)",
        "torch.full_like(t_C, 0)",
        LOOP,
    ),
    Mutant(
        "recurrence-anchor-of-the-earlier",
        "sub-chunks are anchored at the second token of the later one",
        "recurrence.decay:ChannelDecay.__init__",
        "n_A.repeat_interleave(s), t)",
        "n_A.repeat_interleave(s) + 1, t)",
        LOOP,
    ),
    Mutant(
        "recurrence-no-near-pairs",
        "tokens of one sub-chunk meet without a decay",
        "recurrence.decay:ChannelDecay.scores",
        "self.near_xAssK * right_xA1sK",
        "(0 * self.near_xAssK + 1) * right_xA1sK",
        LOOP,
    ),
    Mutant(
        "recurrence-erased-by-neighbours",
        "documents erase each other's states",
        "recurrence.chunked:_Masks.of",
        "strict_CC & same_B1NCC",
        "strict_CC & (same_B1NCC | True)",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
    Mutant(
        "recurrence-state-undecayed",
        "a state goes through a chunk whole",
        "recurrence.chunked:_carried",
        "decay.since[:, :, n, -1, :, None] * kept",
        "kept",
        Test(f"{RECURRENCE}::test_a_state_is_handed_on"),
    ),
    Mutant(
        "recurrence-sums-by-difference",
        "decays are differences of running sums",
        "recurrence.decay:_sums",
        "return taken_RC.to(g_xCK.dtype) @ g_xCK",
        "total = torch.nn.functional.pad(g_xCK.cumsum(-2), (0, 0, 1, 0))\n"
        "    return total[..., upto_R + 1, :] - total[..., above_R + 1, :]",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
    Mutant(
        "recurrence-grows-ahead",
        "pairs that are not looked at are raised to positive exponents",
        "recurrence.decay:HeadDecay.__init__",
        "_sums(g_xC1, j, i)",
        "_sums(g_xC1, 0 * i - 1, i) - _sums(g_xC1, 0 * i - 1, j)",
        Test(f"{RECURRENCE}::test_no_exponent_is_positive"),
    ),
]

SECTIONS = {"The recurrence": RECURRENCE_MUTANTS}
