"""Suggestions are slips of the keyboard, nothing from far away."""

from pathlib import Path

import pytest

from records.spelling import closest, distance

SYMBOLS = ("MLA", "RA", "MLP_DIM", "LEARNING_RATE", "MIN_LEARNING_RATE", "WIDTH")
SYMBOLS += ("GPT2_BIAS", "GPT2_LAYERS", "WEIGHT_DECAY", "GPT2_EVAL_INTERVAL")


@pytest.mark.parametrize(
    "name, meant",
    [
        ("MPL_DIM", "MLP_DIM"),
        ("LEARNING_RAT", "LEARNING_RATE"),
        ("LERNING_RATES", "LEARNING_RATE"),
        ("WIDHT", "WIDTH"),
        ("GPT2_BAIS", "GPT2_BIAS"),
        ("MLAX", "MLA"),
        ("GPT2_EVAL_INTREVALS", "GPT2_EVAL_INTERVAL"),
    ],
)
def test_slips(name, meant):
    assert closest(name, SYMBOLS) == [meant]


@pytest.mark.parametrize(
    "name",
    ["HEIGHT", "GPT2_HEADS", "BATCH", "LAYERS", "DEPTH", "RATE", "A", "XA", "DECAY"],
)
def test_nothing_from_far_away(name):
    """Each of these shares letters with a symbol, as another word does."""
    assert closest(name, SYMBOLS, 3) == []


def test_the_nearest_come_first():
    known = ("tiny-2", "tinier", "tiny", "tinny")
    assert closest("tinyy", known, 3) == ["tinny", "tiny"]
    assert closest("tinyy", known) == ["tinny"]
    assert closest("tinny", known, 3) == ["tinny", "tiny"]


@pytest.mark.parametrize(
    "a, b, slips",
    [("abc", "abc", 0), ("abc", "acb", 1), ("abcd", "bacd", 1), ("", "ab", 2)]
    + [("kitten", "sitting", 3), ("ca", "abc", 3), ("ab", "", 2)],
)
def test_the_distance_by_hand(a, b, slips):
    assert distance(a, b, 9) == slips
    assert distance("abc", "abcdef", 2) is None


def test_no_other_place_measures_names():
    """One helper: elsewhere difflib's cutoff would propose anything again."""
    root = Path(__file__).resolve().parents[2]
    rooms = ("gpt2", "kconf", "kernels", "matrix", "records", "scripts")
    found = [p for room in rooms for p in (root / room).rglob("*.py")]
    assert [p.name for p in found if "get_close_matches" in p.read_text()] == []
