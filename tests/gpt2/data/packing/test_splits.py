"""Which part is validation."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.packing.splits import character_start, pieces
from gpt2.data.sources.corpora import SourceHash


def split(settings, texts: list[bytes]) -> list[tuple[str, bytes, bool]]:
    found = SourceHash()
    for text in texts:
        found.add(text)
    named = (("name", text) for text in texts)
    parts = pieces(settings, named, found.result())
    return [(name, bytes(text), ends) for name, text, ends, _ in parts]


def test_a_document_is_validation_by_its_own_hash(make_settings) -> None:
    texts = [str(number).encode() for number in range(2000)]
    parts = split(make_settings(val_fraction=0.1), texts)
    assert [text for _, text, _ in parts] == texts
    assert all(ends for _, _, ends in parts)
    for name, text, _ in parts:
        first = np.frombuffer(hashlib.sha256(text).digest()[:8], ">u8")[0]
        assert (name == "val") == (first < 0.1 * 2**64)
    assert 150 < sum(name == "val" for name, _, _ in parts) < 250


def test_tail_of_one_document_is_exactly_the_file(make_settings) -> None:
    text = bytes(range(97, 107)) * 111_539 + b"last"
    parts = split(make_settings(split="tail", val_fraction=0.1), [text])
    cut = int(len(text) * 0.9)
    assert parts == [("train", text[:cut], False), ("val", text[cut:], False)]


def test_tail_of_many_documents_cuts_one_of_them(make_settings) -> None:
    texts = [b"aaaa", b"", b"bbbb", b"cc"]
    parts = split(make_settings(split="tail", val_fraction=0.5), texts)
    assert parts == [
        ("train", b"aaaa", True),
        ("train", b"b", False),
        ("val", b"bbb", True),
        ("val", b"cc", True),
    ]


def test_tail_between_documents_cuts_none(make_settings) -> None:
    parts = split(make_settings(split="tail", val_fraction=0.5), [b"aa", b"bb"])
    assert parts == [("train", b"aa", True), ("val", b"bb", True)]


@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.5, 0.6, 0.8])
def test_tail_never_cuts_a_character(make_settings, fraction: float) -> None:
    parts = split(
        make_settings(split="tail", val_fraction=fraction), ["a€𝄞é€".encode()]
    )
    assert "".join(text.decode("utf-8") for _, text, _ in parts) == "a€𝄞é€"


@given(st.text(min_size=1), st.data())
def test_character_start_is_a_character_start(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    position = data.draw(st.integers(0, len(raw)))
    start = character_start(raw, position)
    starts = {len(text[:n].encode("utf-8", "surrogatepass")) for n in range(len(text))}
    assert start == max(s for s in starts | {len(raw)} if s <= position)


def test_continuation_bytes_alone_are_cut_where_asked() -> None:
    assert character_start(b"\x80" * 10, 7) == 7
