"""Mutants of sampling, and of what a run says of its heads."""

from tests.mutants.mutant import Mutant, Test

SAMPLING_TESTS = "tests/gpt2/generation/test_sampling.py"
GENERATE_TESTS = "tests/gpt2/generation/test_generate.py"
STATS_TESTS = "tests/gpt2/model/test_statistics.py"

TEXT = [
    Mutant(
        "top-p-one-short",
        "top-p leaves out the token that reaches the mass",
        "sampling:top_p",
        "before_V = F.pad(sorted_V.cumsum(dim=-1)[:-1], (1, 0))",
        "before_V = sorted_V.cumsum(dim=-1)",
        Test(f"{SAMPLING_TESTS}::test_equal_tokens_at_the_border"),
    ),
    Mutant(
        "top-k-one-more",
        "top-k keeps one token more",
        "sampling:top_k",
        "_descending(logits_V)[:k])",
        "_descending(logits_V)[: k + 1])",
        Test(f"{SAMPLING_TESTS}::test_equal_tokens_at_the_border"),
    ),
    Mutant(
        "temperature-last",
        "the temperature acts after the filters",
        "sampling:Sampling.filtered",
        "        cooled_V = (logits_V - logits_V.max()) / self.temperature\n"
        "        return min_p(top_p(top_k(cooled_V, self.top_k), self.top_p), "
        "self.min_p)\n",
        "        cooled_V = logits_V - logits_V.max()\n"
        "        cooled_V = min_p(top_p(top_k(cooled_V, self.top_k), self.top_p), "
        "self.min_p)\n"
        "        return cooled_V / self.temperature\n",
        Test(f"{SAMPLING_TESTS}::test_the_order_is_temperature_top_k_top_p_min_p"),
    ),
    Mutant(
        "seed-of-text-ignored",
        "the seed does not decide the text",
        "generation.generate:sample",
        "np.random.Philox(request.seed)",
        "np.random.Philox(1)",
        Test(f"{GENERATE_TESTS}::test_the_seed_decides_the_text"),
    ),
    Mutant(
        "padded-rows-sampled",
        "rows that pad the embedding can be drawn",
        "generation.generate:Reader.read",
        "logits_1nV[0, -1, :vocabulary]",
        "logits_1nV[0, -1]",
        Test(f"{GENERATE_TESTS}::test_a_padded_row_is_never_sampled"),
    ),
]

TAPES = [
    Mutant(
        "tape-of-everybody",
        "a second continuation of a prefix writes over the first one",
        "model.cache:GrowingCache.append",
        "if self.store.written != self.end or end > memory.shape[1]:",
        "if end > memory.shape[1]:",
        Test(
            "tests/gpt2/model/test_decode.py::test_the_cache_is_a_value[attention gqa-ra]"
        ),
    ),
    Mutant(
        "tape-of-one-token",
        "the cache is copied for every token",
        "model.cache:GrowingCache._room",
        "power = 1 << max(needed - 1, 0).bit_length()",
        "power = needed",
        Test("tests/gpt2/model/test_cache.py::test_a_token_is_not_copied_again"),
    ),
]

HEADS = [
    Mutant(
        "sink-of-all-queries",
        "the sink rate counts the first query, which sees nothing else",
        "attention.heads:_sinks",
        "(t_T > starts_BT)",
        "(t_T >= starts_BT)",
        Test(f"{STATS_TESTS}::test_uniform_attention"),
    ),
    Mutant(
        "sparsity-of-masked",
        "the sparsity of attention counts masked keys",
        "attention.heads:head_statistics",
        "_share(p_BHTT == 0, mask_B1TT)",
        "mean((p_BHTT == 0).float())",
        Test(f"{STATS_TESTS}::test_uniform_attention"),
    ),
    Mutant(
        "reciprocity-of-the-diagonal",
        "reciprocity counts a token with itself, where S and its transpose agree",
        "attention.heads:_reciprocity",
        "crossed_BHTT.tril(-1), square_BHTT.tril(-1), square_BHTT.triu(1)",
        "crossed_BHTT.tril(), square_BHTT.tril(), square_BHTT.triu()",
        Test(f"{STATS_TESTS}::test_the_statistics_equal_loops[baseline]"),
    ),
    Mutant(
        "statistics-while-training",
        "a look at the heads leaves the model in evaluation mode",
        "statistics:attention_stats",
        "model.train(was_training)",
        "pass",
        Test(f"{STATS_TESTS}::test_nothing_is_left_behind"),
    ),
]

SECTIONS = {
    "Generated text": TEXT,
    "A decode's memory": TAPES,
    "Attention statistics": HEADS,
}
