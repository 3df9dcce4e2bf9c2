"""Corrupted files of a study: refused in a line, or reported; never a traceback."""

from tests.fuzz.handed_on import Fuzz, undrawn

COUNT = 250
"""Corruptions of one `make test`; tests/fuzz/handed_on.py makes any number."""


def test_random_corruptions(tmp_path):
    with undrawn():
        fuzz = Fuzz(tmp_path, 7)
        for _ in range(COUNT):
            fuzz.once()
    assert fuzz.refused > COUNT / 3 and fuzz.reported > COUNT / 8
