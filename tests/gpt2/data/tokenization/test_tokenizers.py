"""The byte tokenizer loses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.tokenization.tokenizers import ByteTokenizer


@given(st.binary())
def test_round_trip_of_any_bytes(text: bytes) -> None:
    tokens = ByteTokenizer().encode(text)
    assert tokens.dtype == np.dtype("<u2")
    assert tokens.tolist() == list(text)
    assert ByteTokenizer().decode(tokens) == text


def test_text_is_utf8_and_separators_are_not_text() -> None:
    tokens = np.append(ByteTokenizer().encode("é"), ByteTokenizer.eot)
    assert tokens.tolist() == [0xC3, 0xA9, 256]
    assert ByteTokenizer().decode(tokens) == "é".encode()


@pytest.mark.parametrize("token", [-1, 257])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="0-256"):
        ByteTokenizer().decode(np.array([0, token]))
