"""Tables of plain text, by hand."""

import pytest

from records.text_table import aligned, fitted, padded

ROWS = [("step", "loss", ""), ("00-base", "3.1", "far"), ("7", "12.25", "")]


def test_columns_stand_below_each_other():
    assert aligned(ROWS, right=(1,)) == [
        "step      loss",
        "00-base    3.1  far",
        "7        12.25",
    ]
    assert aligned(ROWS)[2] == "7        12.25"
    assert aligned([]) == []


def test_no_column_is_narrower_than_asked():
    assert padded([("a", "bcde")], right={0}, least=3) == [["  a", "bcde"]]


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        aligned([("a", "b"), ("c",)])


LONG = [
    ("cell", "state", "reason"),
    (f"{'a' * 60} seed-1", "new", "never ran"),
    (f"{'b' * 60} seed-2", "failed", "CUDA out of memory " * 9),
]


@pytest.mark.parametrize("width", [80, 100])
def test_a_table_fits_its_width(width):
    """Names lose their middle, text goes on in another line and loses nothing."""
    lines = fitted(LONG, width=width, words=True)
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("aaa") and " seed-1" in lines[1] and "…" in lines[1]
    told = " ".join(line[lines[0].index("reason") :] for line in lines[2:])
    assert told.split() == (["CUDA", "out", "of", "memory"] * 9)
    assert len(lines) > 3


def test_a_table_that_fits_is_aligned():
    assert fitted(ROWS, right=(1,)) == aligned(ROWS, right=(1,))
    assert fitted(ROWS, right=(1,), words=True) == aligned(ROWS, right=(1,))
    words = [("a", "b " * 60)]
    first, *more = fitted(words, words=True)
    assert first.startswith("a  b b") and all(x.startswith("   b") for x in more)
