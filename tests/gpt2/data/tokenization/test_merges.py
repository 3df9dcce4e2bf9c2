"""Words and merges: those of the definition, whatever the words, and linear.

The definition is written a second time, slowly: words by the pattern one after the
other, merges by counting every pair of every word anew.
"""

import json
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2.data.packing.prepare import prepare
from gpt2.data.tokenization import bpe, merges
from gpt2.data.tokenization.bpe import BpeTokenizer, EOT, train, trained
from tests.conftest import ROOT

CODE = [
    path.read_text() for path in sorted((ROOT / "gpt2" / "data").rglob("[a-z]*.py"))
]
PROSE = [path.read_text() for path in sorted((ROOT / "docs").glob("[a-d]*.md"))]
ODD = "Ærø, naïve façade – 東京の空は青い。😀 don't 12 345\n\n\t x e\u0301\u0301 \u3000\xa0y"
# Blanks to Python and not to the pattern: \x1c-\x1f.
BLANKS = " \n\t\r\v\f\x1c\x1f\x85\xa0\u2003\u2028\u3000"
LETTERS = "ab1é東'.-\u0301\u200d"


def library(texts: list[str], size: int) -> bytes:
    """tokenizer.json by the trainer of the `tokenizers` library."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    found.train_from_iterator(texts, trainer)
    found.add_special_tokens([EOT])
    return found.to_str(pretty=True).encode()


def slow_words(text: str) -> list[str]:
    return regex.findall(r50k_pat_str, text)


def slow_join(tokens: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """One merge in one word, from left to right."""
    out, at = [], 0
    while at < len(tokens):
        taken = tuple(tokens[at : at + 2]) == pair
        out.append(new if taken else tokens[at])
        at += 2 if taken else 1
    return out


def slow_merges(counts: Counter[str], wanted: int) -> list[tuple[int, int]]:
    number = {character: code for code, character in enumerate(merges.ALPHABET)}
    words = [([number[c] for c in word], n) for word, n in counts.items()]
    found = []
    while len(found) < wanted:
        pairs = Counter()
        for tokens, n in words:
            for pair in pairwise(tokens):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(slow_join(t, best, 256 + len(found)), n) for t, n in words]
        found.append(best)
    return found


def slow_encode(tokenizer: BpeTokenizer, text: str) -> list[int]:
    """Words by the pattern, then in each the pair of the smallest rank, the first
    of equal ones, until no pair has a rank.
    """
    out, ranks = [], tokenizer.ranks
    for word in slow_words(text):
        parts = [bytes([byte]) for byte in word.encode()]
        while True:
            known = [
                (ranks[a + b], at)
                for at, (a, b) in enumerate(pairwise(parts))
                if a + b in ranks
            ]
            if not known:
                break
            _, at = min(known)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        out += [ranks[part] for part in parts]
    return out


@pytest.mark.parametrize(
    "texts, size",
    [
        (CODE, 1500),
        (PROSE, 2000),
        ([ODD] * 3 + ["aaa aaaa aaaaa " * 9], 320),
        (["a" * n for n in range(1, 40)] + ["abababa", "baaab" * 7], 280),
    ],
)
def test_a_vocabulary_is_that_of_the_library(texts: list[str], size: int) -> None:
    assert train(texts, size) == library(texts, size)


runs = st.lists(
    st.tuples(st.sampled_from(LETTERS + BLANKS), st.integers(1, 9)), max_size=8
).map(lambda parts: "".join(character * n for character, n in parts))


@given(st.lists(st.text("ab", min_size=1, max_size=30), max_size=6), st.integers(0, 9))
def test_merges_are_those_counted_anew_each_time(found: list[str], wanted: int) -> None:
    counts = Counter(found)
    assert list(merges.merges(counts, wanted)) == slow_merges(counts, wanted)


@given(st.lists(runs, max_size=4), st.integers(1, 8))
def test_words_are_those_of_the_pattern(texts: list[str], part: int) -> None:
    expected = Counter()
    for text in texts:
        for word in slow_words(text):
            [(characters, _)] = merges.SPLIT.pre_tokenize_str(word)
            expected[characters] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merges, "PART", part)
        patch.setattr(merges, "HELD", part)
        assert merges.words(texts) == expected


def test_pieces_are_cut_at_once() -> None:
    """Equal pieces once: 10⁶ equal words cost no more than reading them."""
    assert merges.words(["the end " * 500_000]) == {
        "the": 1,
        "Ġthe": 499_999,
        "Ġend": 500_000,
        "Ġ": 1,
    }


@pytest.fixture(scope="module")
def tokenizer() -> BpeTokenizer:
    texts = PROSE + [ODD, "a" * 300, " " * 300 + "x", "\n\t" * 99, "東" * 99, "7" * 99]
    return trained(train(texts, 1200))


@example("x      ")  # a run that nothing follows is not cut
@example("      x")
@given(st.lists(runs, max_size=5).map("x".join))
def test_long_runs_are_cut_where_no_token_changes(tokenizer, text: str) -> None:
    """With runs of three and more taken for long ones."""
    expected = slow_encode(tokenizer, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "BLANKS", bpe.blanks(3))
        assert tokenizer.encode(text).tolist() == expected


@pytest.mark.parametrize("end", ["", "7", "x y", "\xa0", "é", "\x1c"])
@pytest.mark.parametrize("blank", [*BLANKS, "\n ", " \n", "\u3000 "])
def test_a_long_run_of_blanks_has_the_tokens_of_the_definition(
    tokenizer, blank: str, end: str
) -> None:
    """Of a run as the pattern can still take it; then of one that it cannot."""
    text = "total" + blank * (bpe.LONG + 7) + end
    parts = list(bpe._between_blanks(text))
    whole = tokenizer._encoding.encode_ordinary(text)
    assert tokenizer.encode(text).tolist() == whole
    assert "".join(parts) == text
    if blank not in "\x1c\x1f":
        assert len(parts) == 3


HUGE = 1_050_000
LONG_TEXTS = {
    "blanks": "total" + " " * HUGE + "7",
    "tabs": "\t" * HUGE + "x",
    "newlines": "total" + "\n" * HUGE + "7",
    "lines": "a" + "\n " * HUGE + "7",
    "no-break": "a" + "\xa0" * HUGE + "7",
    "at the end": "total" + " " * HUGE,
    "blanks alone": " " * HUGE,
    "twice": (" " * HUGE + "x") * 2,
    "a letter": "a" * HUGE,
    "digits": "7" * HUGE,
    "a word": "東京" * (HUGE // 4),
    "accents": "e" + "\u0301" * (HUGE // 2),
    "no blank": "".join(CODE).replace(" ", "").replace("\n", "") * 8,
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
def test_what_is_long_is_encoded_and_comes_back(tokenizer, kind: str) -> None:
    text = LONG_TEXTS[kind]
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text.encode()
    assert len(tokens) <= len(text.encode())
    if kind == "blanks":
        head = tokenizer.encode("total").tolist()
        run = tokenizer.encode(" " * (HUGE - 1)).tolist()
        assert tokens.tolist() == [*head, *run, *tokenizer.encode(" 7").tolist()]


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long four times as much takes; the least of three."""

    def seconds(n: int) -> float:
        began = time.process_time()
        work(n)
        return time.process_time() - began

    return min(seconds(4 * size) / seconds(size) for _ in range(3))


@pytest.mark.parametrize(
    "long", [lambda n: "a" * n, lambda n: "ab" * (n // 2), lambda n: "東" * (n // 3)]
)
def test_training_is_about_linear_in_the_longest_word(long) -> None:
    """Quadratic would be 16 times."""
    assert growth(lambda n: train([long(n), "the end"], 262), 100_000) < 8


def test_a_long_word_among_others_trains_as_it_does_in_the_library() -> None:
    texts = [*PROSE[:2], "a" * 3000, "abc" * 2000, "東京" * 700, " " * 2500 + "x"]
    assert train(texts, 700) == library(texts, 700)


def test_the_longest_word_is_said(tmp_path: Path, make_settings) -> None:
    lines = [json.dumps({"text": f"{n} grey geese"}) for n in range(50)]
    lines.append(json.dumps({"text": "a" * 20_000}))
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    settings = make_settings(
        local_path=str(tmp_path / "corpus.jsonl"),
        tokenizer="bpe",
        bpe_vocab_size=264,
        bpe_train_mb=0,
    )
    said: list[str] = []
    prepare(settings, tmp_path / "set", said.append)
    assert any("different words, the longest of 20,000 bytes" in line for line in said)


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
def test_a_corpus_with_a_run_of_blanks_is_packed(
    tmp_path: Path, make_settings, tokenizer, monkeypatch, kind: str
) -> None:
    """Forecast, training and packing read it; GPT-2's pattern is the same."""
    documents = [f"{n} grey geese walked past the gate" for n in range(60)]
    documents.append("total" + " " * HUGE + "7")
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in documents)
    )
    monkeypatch.setattr(bpe, "gpt2", lambda path: tokenizer)
    settings = make_settings(
        local_path=str(tmp_path / "corpus.jsonl"),
        tokenizer=kind,
        bpe_vocab_size=280 if kind == "bpe" else None,
        bpe_train_mb=0 if kind == "bpe" else None,
        gpt2_vocab_path="" if kind == "gpt2" else None,
        val_fraction=0.3,
    )
    prepare(settings, tmp_path / "set", lambda line: None)
    if kind == "bpe":
        tokenizer = trained((tmp_path / "set" / "tokenizer.json").read_bytes())
    found = []
    for path in (tmp_path / "set").glob("*.bin"):
        tokens = np.fromfile(path, tokenizer.dtype, offset=192)
        ends = np.flatnonzero(tokens == tokenizer.eot)
        found += [tokenizer.decode(part) for part in np.split(tokens, ends + 1)[:-1]]
    assert sorted(found) == sorted(text.encode() for text in documents)
