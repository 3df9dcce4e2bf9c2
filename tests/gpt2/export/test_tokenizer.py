"""Tokenizers in the form of the `tokenizers` library: the same tokens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from gpt2.data.tokenization.bpe import BpeTokenizer, EOT, train, trained
from gpt2.data.tokenization.tokenizers import ByteTokenizer, TokenizerError
from gpt2.export.tokenizer import describe, merges, restore, vocabulary
from tests.conftest import ROOT

FILES = sorted((ROOT / "gpt2" / "data").rglob("[a-z]*.py"))
VOCABULARY = train([path.read_text() for path in FILES] + ["Ærø 東京 😀"], 600)
TOKENIZERS = {"byte": ByteTokenizer(), "bpe": trained(VOCABULARY)}
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [EOT, f"a{EOT}b", "  \n\n  x", "it's 12", "\0", "東京\u0301", "😀"]
)


def library(name):
    """What transformers reads."""
    found = Library.from_str(describe(TOKENIZERS[name]))
    found.encode_special_tokens = True
    return found


LIBRARIES = {name: library(name) for name in TOKENIZERS}


def test_a_trained_vocabulary_leaves_as_it_was_trained():
    """Merges come from the ranks; the file that training wrote has its own."""
    assert describe(TOKENIZERS["bpe"]).encode() == VOCABULARY


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts)
def test_the_library_gives_the_same_tokens_and_text(name, text):
    tokens = TOKENIZERS[name].encode(text).tolist()
    assert LIBRARIES[name].encode(text).ids == tokens
    assert LIBRARIES[name].decode(tokens) == text


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_separator_is_the_last_token(name):
    assert LIBRARIES[name].token_to_id(EOT) == TOKENIZERS[name].eot
    assert LIBRARIES[name].get_vocab_size() == TOKENIZERS[name].vocab_size


@pytest.mark.parametrize("name", TOKENIZERS)
def test_back_again(name):
    again = restore(name, describe(TOKENIZERS[name]))
    assert (again.name, again.vocab_size) == (name, TOKENIZERS[name].vocab_size)
    assert (
        again.encode("é 12 the").tolist()
        == TOKENIZERS[name].encode("é 12 the").tolist()
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_in_order(name):
    text = describe(TOKENIZERS[name])
    tokens, pairs = vocabulary(text)
    assert tokens[-1] == EOT and len(tokens) == TOKENIZERS[name].vocab_size
    assert [LIBRARIES[name].token_to_id(token) for token in tokens] == list(
        range(len(tokens))
    )
    assert ["".join(pair) for pair in pairs] == tokens[256:-1]
    assert pairs == [tuple(pair) for pair in json.loads(text)["model"]["merges"]]


def test_ranks_that_are_not_ordered_by_token():
    """GPT-2's bytes are not in the order of the bytes."""
    ranks = {bytes([byte]): 255 - byte for byte in range(256)} | {
        b"ab": 256,
        b"abc": 257,
    }
    tokenizer = BpeTokenizer("gpt2", ranks)
    found = Library.from_str(describe(tokenizer))
    assert found.encode("abc ab").ids == tokenizer.encode("abc ab").tolist()
    assert merges(ranks) == [("a", "b"), ("ab", "c")]


def test_ranks_that_no_merges_explain():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    with pytest.raises(TokenizerError, match="token 256 b'abc' is made of 3 earlier"):
        merges(ranks)
