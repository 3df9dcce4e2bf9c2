"""Mutants of what a step says of itself: counts, settings, fragments, the check."""

from tests.mutants.mutant import Mutant, Test, check

STUDY_TESTS = "tests/kconf/test_study.py"
DERIVED_TESTS = "tests/kconf/test_derived.py"
MEMORY = "tests/gpt2/training/test_memory.py"

COUNTS = [
    Mutant(
        "flops-attention-twice",
        "attention is counted twice in FLOPs",
        "attention.attention:Attention.products",
        "2 * E * keys + band, 2 * E * mean_keys(T, keys) + band",
        "4 * E * keys + band, 4 * E * mean_keys(T, keys) + band",
        check("0", "expectations"),
    ),
    Mutant(
        "flops-of-positions",
        "the position embedding is counted in FLOPs",
        "costs:count",
        "flops_per_token=FLOPS * (total - positions)",
        "flops_per_token=FLOPS * total",
        check("0", "expectations"),
    ),
    Mutant(
        "cache-mla-twice",
        "MLA's cache is counted twice",
        "attention.latent:Latent.cache_per_token",
        "return self.down.out_features",
        "return 2 * self.down.out_features",
        check("8", "expectations"),
    ),
    Mutant(
        "cache-without-ra",
        "RA's queries are left out of the cache",
        "attention.attention:Attention.cache_size",
        "queries = 0 if self.ra is None else width * min(self.ra.band, tokens)",
        "queries = 0",
        check("5", "expectations"),
    ),
    Mutant(
        "ratio-side",
        "the MLP's gate is counted on the attention's side",
        "attn_gate:AttentionGate.matrices",
        '.gate_up", self.up.weight, STD, side="mlp"',
        '.gate_up", self.up.weight, STD, side="attn"',
        check("3", "expectations"),
    ),
    Mutant(
        "vocabulary-unpadded",
        "the vocabulary is not padded to a multiple of 64",
        "settings.model:ModelSettings.vocab_rows",
        "return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE",
        "return self.vocab_size",
        check("0", "expectations"),
    ),
    Mutant(
        "memory-without-moments",
        "the memory estimate forgets the moments",
        "optim.adamw",
        "OptimizerFacts(MOMENTS, MOMENTS,",
        "OptimizerFacts((), (),",
        Test(f"{MEMORY}::test_the_memory_estimate_counts_what_autograd_saves"),
    ),
    Mutant(
        "memory-without-masks",
        "the memory estimate forgets masks and movement's scores",
        "pruner:state_bytes",
        '"movement": mask + score,',
        '"movement": 0,',
        Test(f"{MEMORY}::test_optimizer_state_and_masks_are_in_the_estimate[symbols4]"),
    ),
]

CONFIGURATION = [
    Mutant(
        "divisor-of-latent",
        "the width divisor does not reach the latent",
        "settings.model:ModelSettings.latent",
        "return self._divided(self.attention and self.attention.mla_latent)",
        "return self.attention and self.attention.mla_latent",
        Test("tests/gpt2/model/test_costs.py::test_the_divisor_keeps_the_ratios"),
    ),
    Mutant(
        "flag-of-another",
        "a setting reads another symbol",
        "settings.mixers.attention:AttentionSettings",
        'ra_ct_detach: bool = flag("RA_CT_DETACH")',
        'ra_ct_detach: bool = flag("RA_CT_HEAD_AVERAGE")',
        Test(
            "tests/kconf/test_symbols.py::test_every_symbol_is_read_by_exactly_one_field"
        ),
    ),
    Mutant(
        "statistic-of-another",
        "a choice's member means another",
        "settings.mixers.attention:AttentionSettings",
        'RA_CT_ENTROPY="entropy"',
        'RA_CT_ENTROPY="max"',
        check("18", "expectations"),
    ),
    Mutant(
        "range-open",
        "a bound is not enforced",
        "bind:real.read",
        "number <= above or number >= below",
        "number < above or number > below",
        Test("tests/kconf/test_bind.py::test_a_refused_value_names_its_symbol"),
    ),
    Mutant(
        "choice-of-two",
        "a choice with two members set is read",
        "bind:one_of.read",
        "if len(chosen) != 1:",
        "if not chosen:",
        Test("tests/kconf/test_bind.py::test_a_choice_has_exactly_one_member"),
    ),
    Mutant(
        "idle-line",
        "a line that does not matter is accepted",
        "kconf.study:idle_lines",
        "if without and without.values == resolved.values:",
        "if False:",
        Test(f"{STUDY_TESTS}::TestDifference::test_every_line_must_matter"),
    ),
    Mutant(
        "silent-change",
        "a symbol may change without a line",
        "kconf.study:difference",
        "        if reason:\n",
        "        if True:\n",
        Test(f"{STUDY_TESTS}::TestDifference::test_a_selected_symbol_needs_a_line"),
    ),
    Mutant(
        "same-step-twice",
        "two steps may be one configuration",
        "kconf.study:duplicates",
        "if first is not step:",
        "if False:",
        Test(f"{STUDY_TESTS}::TestStudy::test_all_findings_of_all_steps"),
    ),
    Mutant(
        "zero-in-the-values",
        "the values hold the 0 and not what it stands for",
        "strict:Tree._resolved",
        "derive(written),",
        "written,",
        Test(f"{DERIVED_TESTS}::test_the_width_of_the_mlp"),
    ),
    Mutant(
        "number-in-the-config",
        "a .config freezes what a 0 stands for",
        "dotconfig:render",
        "value = resolved.written[symbol]",
        "value = resolved.values[symbol]",
        Test(f"{DERIVED_TESTS}::test_the_config_keeps_what_was_written"),
    ),
    Mutant(
        "swiglu-rounded-down",
        "SwiGLU's width is the multiple of 64 below 8/3 E",
        "derived:mlp_width",
        "(8 * E + 3 * ROUNDED // 2)",
        "(8 * E)",
        Test(f"{DERIVED_TESTS}::test_the_width_of_the_mlp"),
    ),
    Mutant(
        "left-behind-in-silence",
        "a written width that no longer fits the size is not told",
        "derived:sizes",
        "elif written[symbol] != number:",
        "elif False:",
        Test(f"{DERIVED_TESTS}::test_a_written_number_that_0_would_not_be_is_told"),
    ),
    Mutant(
        "vocabulary-of-zero",
        "a vocabulary of 0 stays 0",
        "derived:derive",
        "zeros = [symbol for symbol in RULES if written.get(symbol) == 0]",
        'zeros = [s for s in RULES if s != "GPT2_VOCAB_SIZE" and written.get(s) == 0]',
        Test(f"{DERIVED_TESTS}::test_the_vocabulary"),
    ),
    Mutant(
        "unmet-dependency",
        "a line whose dependency is unmet is accepted",
        "strict:Tree._refusal",
        'return f"cannot be set: {self.unmet(name)} ({computed})"',
        "return None",
        Test("tests/kconf/test_strict.py::test_defconfig"),
    ),
    Mutant(
        "expectation-ignored",
        "an expectation may be wrong",
        "claims:expectations",
        "str(found) == claimed,",
        "True,",
        Test("tests/gpt2/check/test_check.py::test_a_wrong_expectation"),
    ),
    Mutant(
        "twins-accepted",
        "two steps may compute the same function",
        "distinct:require_distinct",
        "if earlier.settings.model != subject.settings.model:",
        "if False:",
        Test("tests/gpt2/check/test_check.py::test_identical_functions_are_named"),
    ),
]

SECTIONS = {"Counts": COUNTS, "Settings, steps, the check itself": CONFIGURATION}
