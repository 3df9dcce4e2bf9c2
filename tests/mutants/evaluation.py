"""Mutants of evaluations after training: texts, tasks, their place in a verdict."""

from tests.mutants.mutant import Mutant, Test

TESTS = "tests/gpt2/evaluation/test_text.py"
MATRIX_TESTS = "tests/matrix/results/test_evaluations.py"

EVALUATION = [
    Mutant(
        "eval-token-twice",
        "every later window scores its first token again",
        "text:windows",
        "tokens[before + 1 : end + 1]",
        "tokens[max(before, 1) : end + 1]",
        Test(f"{TESTS}::test_every_token_is_scored_once_after_enough"),
    ),
    Mutant(
        "eval-short-context",
        "a later window reads no more than it scores",
        "text:windows",
        "start = max(end - context, 0)",
        "start = before",
        Test(f"{TESTS}::test_every_token_is_scored_once_after_enough"),
    ),
    Mutant(
        "eval-padding-scored",
        "the logits of a short window are taken from behind its end",
        "scoring:_together",
        "logits_BTV[row, end - n : end, :",
        "logits_BTV[row, longest - n :, :",
        Test(f"{TESTS}::test_shorter_windows_are_padded_without_a_trace"),
    ),
    Mutant(
        "eval-padded-rows",
        "rows that pad the embedding have a share of the probability",
        "scoring:_together",
        "end - n : end, : trained.tokenizer.vocab_size]",
        "end - n : end]",
        Test(f"{TESTS}::test_padded_rows_have_no_share"),
    ),
    Mutant(
        "eval-bits-per-token",
        "bits per byte are divided by tokens",
        "text:TextScore.metrics",
        '"bits_per_byte": bits / self.bytes,',
        '"bits_per_byte": bits / self.tokens,',
        Test(f"{TESTS}::test_bits_per_byte_do_not_depend_on_tokens_per_byte"),
    ),
    Mutant(
        "eval-text-changed",
        "a study is not evaluated again when the text has changed",
        "command:Evaluator.expected",
        '                "sha256": self.text_sha256,\n',
        "",
        Test(f"{TESTS}::test_a_study_is_evaluated_once"),
    ),
    Mutant(
        "eval-reused-left",
        "a control that a study reuses is not evaluated with it",
        "command:_cells",
        'names = ("config.py", pointer.NAME)',
        'names = ("config.py",)',
        Test(
            f"{TESTS}::test_a_control_of_another_study_is_evaluated_where_it_lies",
        ),
    ),
    Mutant(
        "eval-first-counts",
        "of two rows of one name the first counts",
        "records.evaluations:read",
        "for row in rows}",
        "for row in reversed(rows)}",
        Test(f"{TESTS}::test_of_two_rows_the_last_counts"),
    ),
    Mutant(
        "eval-settings-mixed",
        "differences are taken between evaluations of other settings",
        "evaluation_section:_cells",
        "if seed in control and control[seed].protocol == mine.protocol",
        "if seed in control",
        Test(f"{MATRIX_TESTS}::test_other_settings_are_named_and_never_mixed"),
    ),
    Mutant(
        "eval-verdict-on-a-mixture",
        "a verdict is given on evaluations of other settings",
        "weigh:_unfair",
        "    lines += evaluations.incomparable(runs, terms.metric)\n",
        "",
        Test(f"{MATRIX_TESTS}::test_other_settings_of_a_step_leave_no_difference"),
    ),
]

SECTIONS = {"Evaluations after training": EVALUATION}
