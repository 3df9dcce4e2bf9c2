"""Mutants of the recall corpus and of the task that asks for it."""

from tests.mutants.mutant import Mutant, Test

ROWS = "tests/gpt2/data/sources/test_recall.py"
TASK = "tests/gpt2/evaluation/test_recall.py"
LOOP = Test(f"{ROWS}::test_a_row_by_an_independent_loop")
ONE_QUERY = Test(f"{TASK}::test_the_score_is_that_of_one_query_at_a_time")

RECALL = [
    Mutant(
        "recall-keys-again",
        "keys of a row may be equal",
        "sources.recall:recall_row",
        "random.permutation(keys)[:pairs]",
        "random.integers(0, keys, pairs)",
        LOOP,
    ),
    Mutant(
        "recall-values-few",
        "the last value is never drawn",
        "sources.recall:recall_row",
        "random.integers(0, values, pairs)",
        "random.integers(0, values - 1, pairs)",
        Test(f"{ROWS}::test_keys_values_and_queries_are_spread_evenly"),
    ),
    Mutant(
        "recall-wrong-answer",
        "an answer is the value of the pair before",
        "sources.recall:recall_row",
        "value_N[asked]]",
        "value_N[asked - 1]]",
        LOOP,
    ),
    Mutant(
        "recall-in-order",
        "queries come in the order of the pairs",
        "sources.recall:recall_row",
        "[random.permutation(pairs) for",
        "[np.arange(pairs) for",
        Test(f"{ROWS}::test_keys_values_and_queries_are_spread_evenly"),
    ),
    Mutant(
        "recall-one-seed",
        "every seed has the same rows",
        "sources.recall:_entropy",
        "{VERSION}:{seed}:{number}",
        "{VERSION}:{number}",
        Test(f"{ROWS}::test_rows_are_a_function_of_seed_and_number"),
    ),
    Mutant(
        "recall-every-round",
        "answers that were given before count as well",
        "sources.recall:recall_row",
        "min(4 * pairs, length - 1)",
        "length - 1",
        Test(f"{TASK}::test_answers_given_before_are_not_counted"),
    ),
    Mutant(
        "recall-one-number-of-pairs",
        "all rows have the first number of pairs",
        "sources.recall:recall_documents",
        "pairs[number % len(pairs)]",
        "pairs[0]",
        Test(f"{ROWS}::test_the_corpus_has_the_numbers_of_pairs_in_turn"),
    ),
    Mutant(
        "recall-shifted-windows",
        "windows on rows begin anywhere",
        "loading.on_the_fly:train_windows",
        "aligned=data.recall is not None",
        "aligned=False",
        Test(f"{ROWS}::test_every_window_is_a_row"),
    ),
    Mutant(
        "recall-unnamed-set",
        "corpora of other pairs share a folder",
        "records.manifest:_shapes",
        "return bool(value)",
        "return False",
        Test(f"{ROWS}::test_the_datasets_hash_knows_each_symbol"),
    ),
    Mutant(
        "recall-length-free",
        "rows of another length than the window are taken",
        "settings.run:run_settings",
        "data.recall.length != settings.model.block_size",
        "data.recall.length > settings.model.block_size",
        Test(f"{ROWS}::test_settings_without_a_meaning"),
    ),
    Mutant(
        "recall-scored-late",
        "the logits are those after the answer",
        "evaluation.recall:score_rows",
        "logits_TV[place_n - 1,",
        "logits_TV[place_n.clamp(max=len(logits_TV) - 1),",
        ONE_QUERY,
    ),
    Mutant(
        "recall-padded-rows",
        "rows that pad the embedding can be the answer",
        "evaluation.recall:score_rows",
        ", : trained.tokenizer.vocab_size]",
        "]",
        Test(f"{TASK}::test_a_lookup_is_right_and_its_neighbour_wrong"),
    ),
    Mutant(
        "recall-nats-by-row",
        "the loss is divided by rows",
        "evaluation.recall:score_rows",
        "nats / answers)",
        "nats / len(rows))",
        ONE_QUERY,
    ),
    Mutant(
        "recall-rows-of-training",
        "a task asks for rows of the corpus",
        "evaluation.recall:evaluation_rows",
        'recall_row(f"evaluation {seed}", n, *sizes)',
        "recall_row(seed, n, *sizes)",
        Test(f"{TASK}::test_rows_are_not_those_of_training"),
    ),
    Mutant(
        "recall-limit-unnoticed",
        "a study is not evaluated again with more rows",
        "command:Evaluator._recall_settings",
        ' | {"limit": self._rows}',
        ' | {"limit": recall.ROWS}',
        Test(f"{TASK}::test_rows_of_a_study_on_the_record"),
    ),
]

SECTIONS = {"recall": RECALL}
