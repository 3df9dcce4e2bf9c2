"""Positions: never behind what is safe, whatever a kill left of the file."""

from pathlib import Path

import pytest

from gpt2.data.packing.journal import Journal, NAME

START = None, {"train": 0, "val": 0}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Positions 1 to 3, after 10, 20 and 30 training pieces."""
    found = Journal(tmp_path)
    for number, val in ((1, 0), (2, 4), (3, 4)):
        found.add({"block": number}, {"train": 10 * number, "val": val})
    return found


@pytest.mark.parametrize(
    "train, val, block",
    [(9, 9, None), (10, 0, 1), (20, 3, 1), (19, 4, 1), (20, 4, 2), (99, 99, 3)],
)
def test_the_last_position_that_passes_nothing_over(journal, train, val, block) -> None:
    position, seen = journal.last({"train": train, "val": val})
    assert (position or {}).get("block") == block
    assert seen["train"] == 10 * (block or 0) <= train and seen["val"] <= val


def test_no_journal_is_the_start(tmp_path: Path) -> None:
    assert Journal(tmp_path).last({"train": 5, "val": 5}) == START


@pytest.mark.parametrize(
    "garbage", [b"\xff\xfe{", b'{"position": 1}\n', b"[1]\n", b"7"]
)
def test_torn_lines_are_passed_over(journal, tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(garbage + path.read_bytes() + garbage)
    journal.add({"block": 4}, {"train": 40, "val": 4})
    assert journal.last({"train": 40, "val": 4})[0] == {"block": 4}
    assert journal.last({"train": 39, "val": 4})[0] == {"block": 3}
