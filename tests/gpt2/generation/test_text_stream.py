"""Streams of bytes: whole characters, stop strings, wherever the cuts are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.generation.text_stream import TextStream, parse_stops


def run(data, stops=(), cuts=1):
    """(pieces, the stop string met) of the bytes fed `cuts` at a time."""
    stream = TextStream(tuple(stops))
    pieces = [stream.feed(data[i : i + cuts]) for i in range(0, len(data), cuts)]
    return [*pieces, stream.close()], stream.met


def oracle(text, stops):
    """The text before the stop string that is complete first, the longest of them."""
    for end in range(len(text) + 1):
        met = [s for s in stops if text[:end].endswith(s)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


def test_a_character_comes_when_it_is_whole():
    pieces, _ = run("aé€😀".encode())
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "😀", ""]


def test_bytes_that_are_not_utf8():
    assert "".join(run(b"a\xffb")[0]) == "a\ufffdb"
    assert run("€".encode()[:2])[0] == ["", "", "\ufffd"]


TEXT = st.text("abé€", max_size=12)
STOPS = st.lists(st.text("abé€", min_size=1, max_size=4), max_size=3)


@given(TEXT, STOPS, st.integers(1, 5))
def test_stop_strings_wherever_the_stream_is_cut(text, stops, cuts):
    pieces, met = run(text.encode(), stops, cuts)
    assert ("".join(pieces), met) == oracle(text, stops)


@given(TEXT, STOPS)
def test_nothing_is_given_out_too_early_or_too_late(text, stops):
    """What is held back is exactly what may still become part of a stop string."""
    stream = TextStream(tuple(stops))
    given_out = ""
    for i, character in enumerate(text, start=1):
        given_out += stream.feed(character.encode())
        if stream.met is not None:
            break
        held = text[len(given_out) : i]
        beginnings = [b for s in stops for b in (s[:n] for n in range(1, len(s)))]
        longest = max(
            (b for b in beginnings if text[:i].endswith(b)), key=len, default=""
        )
        assert held == longest


def test_of_stop_strings_that_end_together_the_longest_counts():
    assert run(b"xab", ("b", "ab")) == (["x", "", "", ""], "ab")


def test_after_a_stop_nothing_comes():
    stream = TextStream(("bc",))
    assert stream.feed(b"abcd") == "a" and stream.met == "bc"
    assert stream.feed(b"more") == "" and stream.close() == ""


@pytest.mark.parametrize(
    "text, stops",
    [
        ("", ()),
        ("END", ("END",)),
        (r"END|\n\n|a\|b\\n\t", ("END", "\n\n", "a|b\\n\t")),
        ("two\nlines", ("two\nlines",)),
    ],
)
def test_stops_as_they_are_written(text, stops):
    assert parse_stops(text) == stops


@pytest.mark.parametrize(
    "text, cause",
    [
        ("a||b", "empty"),
        ("|", "empty"),
        ("a|", "empty"),
        (r"\q", "none of"),
        ("a\\", "none of"),
    ],
)
def test_stops_that_are_refused(text, cause):
    with pytest.raises(ValueError, match=cause):
        parse_stops(text)
