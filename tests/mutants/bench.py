"""Mutants of what compiles the kernels elsewhere and of what times them."""

from tests.mutants.mutant import Mutant, Test

AOT = "tests/kernels/test_aot.py"
BENCH = "tests/gpt2/measure/test_bench.py"
NEEDLE = "tests/gpt2/measure/test_needle.py"
PLACE = "tests/matrix/fleet/test_place.py"

SECTIONS = {
    "Compiling, timing and caches": [
        Mutant(
            "aot-spills-fit",
            "make aot lets spills pass",
            "kernels.aot:Cost.fits",
            "return self.spills == 0 and self.shared",
            "return self.shared",
            Test(f"{AOT}::test_a_spill_or_too_much_shared_memory_does_not_fit"),
        ),
        Mutant(
            "tile-band-forgotten",
            "a variant with a band is served without a tile for the band kernel",
            "attention.configs:served",
            'for kernel in KERNELS if band or kernel != "band"',
            'for kernel in KERNELS if kernel != "band"',
            Test(f"{AOT}::test_what_does_not_fit_is_not_served"),
        ),
        Mutant(
            "bench-overwrites",
            "a second record of a day replaces the first",
            "record:fresh",
            "if not any(path.exists() for path in taken):",
            "if True:",
            Test(f"{BENCH}::test_no_record_is_overwritten"),
        ),
        Mutant(
            "bench-always-whole",
            "a record that was cut short does not say so",
            "record:Record.call",
            '"commit": commit, "complete": False}',
            '"commit": commit, "complete": True}',
            Test(f"{BENCH}::test_a_record_says_that_it_is_partial_until_it_is_not"),
        ),
        Mutant(
            "bench-milliseconds",
            "two calls are compared by milliseconds, not by ratios",
            "measure.compare:changes",
            'Change(name, old["ratio"], row["ratio"], noise)',
            'Change(name, old["ms"], row["ms"], noise)',
            Test(f"{BENCH}::test_compare_marks_what_exceeds_the_noise"),
        ),
        Mutant(
            "bench-noise-ignored",
            "the rounds' spread does not widen what a change has to exceed",
            "measure.compare:changes",
            "noise = max(FLOOR, ERRORS * spread)",
            "noise = FLOOR",
            Test(f"{BENCH}::test_compare_marks_what_exceeds_the_noise"),
        ),
        Mutant(
            "bench-rate-at-once",
            "contenders start at the full rate",
            "race:rate",
            "return peak * min(1.0, (done + 1) / RISE)",
            "return peak",
            Test(f"{BENCH}::test_the_rate_rises"),
        ),
        Mutant(
            "inductor-cache-imposed",
            "a folder that the user set for inductor is ignored",
            "place:Slot.environment",
            'found.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.inductor))',
            'found["TORCHINDUCTOR_CACHE_DIR"] = str(self.inductor)',
            Test(f"{PLACE}::test_the_command_the_mask_and_the_record"),
        ),
        Mutant(
            "inductor-cache-of-all-ranks",
            "ranks compile into one folder",
            "private",
            '"triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}',
            '"triton"}',
            Test(
                "tests/gpt2/training/test_entry.py::"
                "test_a_rank_has_a_cache_of_its_own_and_does_not_outlive_torchrun"
            ),
        ),
    ],
    "Needles of native sparse attention": [
        Mutant(
            "needle-whole-shares",
            "a compressed block counts in full for the first block that it touches",
            "needle:choose_blocks",
            "(torch.minimum(first_C + l, (j_C + 1) * b) - first_C) / l",
            "torch.ones_like(p_BGC[0, 0])",
            Test(f"{NEEDLE}::test_the_choice_is_the_oracle_s"),
        ),
        Mutant(
            "needle-one-head-chooses",
            "the largest head's probabilities choose, not their sum",
            "needle:choose_blocks",
            "torch.softmax(logits, dim=-1).sum(2)",
            "torch.softmax(logits, dim=-1).amax(2)",
            Test(f"{NEEDLE}::test_the_choice_is_the_oracle_s"),
        ),
        Mutant(
            "needle-own-block-free",
            "the block before the query's is not forced",
            "needle:choose_blocks",
            "[0, max(J - 2, 0), J - 1]",
            "[0, J - 1]",
            Test(f"{NEEDLE}::test_the_choice_is_the_oracle_s"),
        ),
        Mutant(
            "needle-higher-index",
            "of equal scores the higher index is chosen",
            "needle:choose_blocks",
            "order = torch.sort(s_BGJ, dim=-1, descending=True, stable=True).indices",
            "order = torch.sort(s_BGJ, dim=-1, stable=True).indices.flip(-1)",
            Test(f"{NEEDLE}::test_of_equal_scores_the_lower_index"),
        ),
        Mutant(
            "needle-always-found",
            "a trial counts what any trial of its batch chose",
            "needle:measure",
            "int(inside.any(2).any(1).sum())",
            "B * int(inside.any())",
            Test(f"{NEEDLE}::test_found_at_4k"),
        ),
    ],
}
