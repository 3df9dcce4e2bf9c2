"""Rows survive a kill; anything else malformed is an error."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from records.files import lines
from records.jsonl import last_per_step, open_append, read_rows
from records.layout import RecordError


def row(attempt: int, step: int, **more: object) -> dict:
    return {"kind": "train", "attempt": attempt, "step": step, **more}


def test_round_trip_keeps_non_finite_numbers(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    with open_append(path) as rows:
        rows.append(row(1, 0, loss=float("inf"), note="ü"))
    (read,) = read_rows(path)
    assert read == row(1, 0, loss=float("inf"), note="ü")


def test_torn_last_line_is_left_out(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"attempt": 1, "step": 0}\n{"attempt": 1, "st')
    assert [r["step"] for r in read_rows(path)] == [0]


def test_a_line_that_is_being_written_is_the_last(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"attempt": 1, "step": 0}\n{"attempt": 1, "st')
    reading = lines(path)
    assert [next(reading), next(reading)] == path.read_bytes().splitlines(True)
    with path.open("a") as file:
        file.write('ep": 1}\n{"attempt": 1, "step": 2}\n')
    assert list(reading) == []
    assert [r["step"] for r in read_rows(path)] == [0, 1, 2]


def test_a_whole_last_line_without_newline_counts(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"attempt": 1, "step": 0}\n{"attempt": 1, "step": 1}')
    with open_append(path) as rows:
        rows.append(row(2, 2))
    assert [r["step"] for r in read_rows(path)] == [0, 1, 2]


def test_a_new_attempt_ends_a_torn_line(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"attempt": 1, "step": 0}\n{"attempt": 1, "st')
    with open_append(path) as rows:
        rows.append(row(2, 1))
    assert [r["step"] for r in read_rows(path)] == [0, 1]


@pytest.mark.parametrize(
    "middle, after",
    [
        ('{"attempt": 1, "st', '{"attempt": 1, "step": 2}'),
        ("[1]", '{"attempt": 1, "step": 2}'),
        ('{"a\n{"b', '{"attempt": 2, "step": 2}'),
        ("", '{"attempt": 1, "step": 2}'),
    ],
)
def test_a_malformed_line_elsewhere_is_an_error(tmp_path: Path, middle, after):
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"attempt": 1, "step": 0}}\n{middle}\n{after}\n')
    with pytest.raises(
        RecordError, match="m.jsonl: line 2 is (malformed|a list, expected an object)"
    ):
        read_rows(path)


def test_last_per_step_takes_the_last_written_and_sorts():
    rows = [row(1, 0, loss=1), row(1, 1, loss=2), row(2, 1, loss=3), row(2, 0, loss=4)]
    rows.insert(2, {"kind": "eval", "attempt": 1, "step": 1, "loss": 9})
    assert [r["loss"] for r in last_per_step(rows, "train")] == [4, 3]
    assert [r["loss"] for r in last_per_step(rows, "eval")] == [9]


def _write_many(path: str, attempt: int) -> None:
    with open_append(path) as rows:
        for step in range(200):
            rows.append(row(attempt, step, pad="x" * 3000))


def test_rows_of_two_processes_do_not_mix(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(str(path), k)) for k in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(read_rows(path)) == 400


def test_a_short_write_is_an_error(tmp_path: Path, monkeypatch):
    """The part that was written is taken back, the reason is the system's; a disk
    that takes the rest of the row after all has taken the row.
    """
    rows, write = open_append(tmp_path / "m.jsonl"), os.write
    rows.append(row(1, 0))
    taken = iter([7, 0])

    def nearly_full(fd: int, data: bytes) -> int:
        room = next(taken)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:room])

    monkeypatch.setattr("os.write", nearly_full)
    with pytest.raises(OSError, match="No space left on device: .*m.jsonl"):
        rows.append(row(1, 1))
    assert rows.path.read_text().endswith("}\n")
    monkeypatch.setattr("os.write", lambda fd, data: write(fd, data[:7]))
    rows.append(row(1, 1))
    monkeypatch.undo()
    rows.append(row(1, 2))
    assert [r["step"] for r in read_rows(rows.path)] == [0, 1, 2]


def test_no_row_is_added_through_a_link(tmp_path: Path):
    mine = tmp_path / "mine"
    mine.write_text("mine\n")
    (tmp_path / "rows.jsonl").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links.*rows.jsonl"):
        open_append(tmp_path / "rows.jsonl")
    assert mine.read_text() == "mine\n"
