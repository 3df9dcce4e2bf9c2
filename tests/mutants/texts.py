"""Mutants of how text is read, cut into words, merged, and scored over a join."""

from tests.mutants.mutant import Mutant, Test

MERGES, COLUMNS = (
    "tests/gpt2/data/tokenization/test_merges.py",
    "tests/gpt2/data/sources/test_columns.py",
)
PAIRS = "tests/gpt2/evaluation/test_text.py"
JOIN = Test(f"{PAIRS}::test_every_byte_of_a_continuation_is_scored_once")

TEXTS = [
    Mutant(
        "blanks-whole-run",
        "a long run of blanks keeps the one that opens the next word",
        "bpe:_between_blanks",
        "run.end() - (run.end() < len(text))",
        "run.end()",
        Test(f"{MERGES}::test_long_runs_are_cut_where_no_token_changes"),
    ),
    Mutant(
        "blanks-last-at-the-end",
        "a run that ends the text is cut in front of its last blank too",
        "bpe:_between_blanks",
        "run.end() - (run.end() < len(text))",
        "run.end() - 1",
        Test(f"{MERGES}::test_long_runs_are_cut_where_no_token_changes"),
    ),
    Mutant(
        "blanks-spaces-alone",
        "only spaces count as blanks of a long run",
        "bpe:blanks",
        'f"[{WHITE}]{{{least},}}"',
        'f"[ ]{{{least},}}"',
        Test(f"{MERGES}::test_a_long_run_of_blanks_has_the_tokens_of_the_definition"),
    ),
    Mutant(
        "merges-stale-count",
        "a pair is merged by the count that it once had",
        "merges:_Places.largest",
        "if count == -noted:",
        "if count:",
        Test(f"{MERGES}::test_a_vocabulary_is_that_of_the_library"),
    ),
    Mutant(
        "merges-words-once",
        "a pair counts once for each different word",
        "merges:_count",
        "found[word] += count",
        "found[word] += 1",
        Test(f"{MERGES}::test_words_are_those_of_the_pattern"),
    ),
    Mutant(
        "merges-touching-twice",
        "the pair between two merges that touch is counted from both",
        "merges:_Places.merge",
        "ends[:-1] &= ~touching[1:]",
        "ends[:-1] &= True",
        Test(f"{MERGES}::test_merges_are_those_counted_anew_each_time"),
    ),
    Mutant(
        "pair-by-length",
        "the continuation is what follows as many tokens as the context has",
        "evaluation.scoring:pair",
        "if whole[:n] == before",
        "if len(whole) > n",
        JOIN,
    ),
    Mutant(
        "pair-blanks-stay",
        "blanks at the end of a context belong to nobody",
        "evaluation.scoring:pair",
        "continuation = context[len(kept) :] + continuation",
        "continuation = continuation + ''",
        JOIN,
    ),
    Mutant(
        "rows-big-numbers",
        "a number of many digits beside the text ends the corpus",
        "sources.rows:line_text",
        ", parse_int=_number",
        "",
        Test(f"{COLUMNS}::test_other_columns_of_json_lines_are_never_read"),
    ),
    Mutant(
        "rows-string-alone",
        "text in parquet must be a plain string",
        "sources.rows:_require_text",
        "if str(kind) not in TEXT",
        "if str(kind) not in TEXT[:1]",
        Test(f"{COLUMNS}::test_text_in_parquet_has_many_spellings"),
    ),
    Mutant(
        "mark-in-every-line",
        "the byte order mark stays in the first line",
        "sources.rows:jsonl",
        "if number == 1 else line",
        "if number == 0 else line",
        Test(f"{COLUMNS}::test_every_spelling_of_json_lines"),
    ),
    Mutant(
        "mark-of-utf16",
        "UTF-16 is not recognised by its mark",
        "sources.files:unmarked",
        "if text.startswith(marks)",
        "if text.endswith(marks)",
        Test(f"{COLUMNS}::test_another_encoding_is_refused_by_name"),
    ),
    Mutant(
        "columns-all",
        "a stream reads every column",
        "hub:Stream.__init__",
        "text_only(self._builder)",
        "None",
        Test(f"{COLUMNS}::test_other_columns_of_json_lines_are_never_read"),
    ),
    Mutant(
        "expand-uncounted",
        "what comes out of a compressed file is not counted",
        "expand:pieces",
        'expansion.add(len(piece) + ROW_BYTES * piece.count(b"\\n"))',
        "expansion.add(0)",
        Test(f"{COLUMNS}::test_a_stream_has_the_limit_too"),
    ),
    Mutant(
        "expand-rows-uncounted",
        "a text that many rows share counts once",
        "sources.rows:_group",
        "expansion.add(len(text) + ROW_BYTES)",
        "expansion.require(len(text) + ROW_BYTES)",
        Test(f"{COLUMNS}::test_a_stream_has_the_limit_too"),
    ),
    Mutant(
        "expand-cut-short",
        "a file that ends within a frame is whole",
        "expand:pieces",
        "if engine is not None:",
        "if engine is None:",
        Test(f"{COLUMNS}::test_a_streamed_file_that_is_cut_short_is_an_error"),
    ),
]

SECTIONS = {"Text, words and merges": TEXTS}
