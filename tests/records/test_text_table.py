"""Tables of plain text, by hand."""

import pytest

from records.text_table import aligned, padded

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
