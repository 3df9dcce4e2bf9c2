"""The heartbeat of a loop: its last row, its size, the attempts in it."""

import json

from records import heartbeat
from records.cell import spent_seconds
from records.heartbeat import Heartbeat, newest
from records.jsonl import read_rows


def test_rows_say_where_the_loop_is(tmp_path, monkeypatch):
    path = tmp_path / "heartbeat_rank0.jsonl"
    assert newest(path) is None
    with Heartbeat(path, 1, lambda: 77) as heart:
        heart.beat(0, "starting")
        heart.beat(1, "training", 3.5)
        heart.beat(2, "training", 3.4)  # within the same second: left out
        monkeypatch.setattr(heartbeat, "EVERY", 0.0)
        heart.beat(3, "training", 3.3)
    rows = read_rows(path)
    assert [(row["step"], row["phase"]) for row in rows] == [
        (0, "starting"),
        (1, "training"),
        (3, "training"),
    ]
    last = newest(path)
    assert last == rows[-1] and last["loss"] == 3.3 and last["memory_bytes"] == 77


def test_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.0)
    path, keep = tmp_path / "heartbeat_rank0.jsonl", heartbeat.KEEP
    for attempt in (1, 2, 3):
        with Heartbeat(path, attempt, lambda: 0) as heart:
            for step in range(5 * keep):
                heart.beat(step, "training")
                assert step % 97 or len(read_rows(path)) <= 2 * keep
    rows = read_rows(path)
    assert rows[-1]["attempt"] == 3 and rows[-1]["step"] == 5 * keep - 1
    steps = [row["step"] for row in rows if row["attempt"] == 3]
    assert steps == list(range(steps[0], 5 * keep))


def test_a_torn_row_is_passed_over(tmp_path):
    path = tmp_path / "heartbeat_rank0.jsonl"
    row = {"attempt": 1, "pid": 7, "time": 9.0, "step": 4, "phase": "training"}
    path.write_bytes(json.dumps(row).encode() + b'\n{"st\n{"step": 9')
    assert newest(path) == row


def test_time_is_what_a_clock_that_nobody_sets_says():
    rows = [
        {"event": "start", "attempt": 1, "time": 1000.0},
        {"event": "end", "attempt": 1, "time": 1060.0},
        {"event": "start", "attempt": 2, "time": 2000.0},
        {"event": "start", "attempt": 3, "time": 9000.0},
        {"event": "end", "attempt": 3, "time": 100.0, "seconds": 5.0},
    ]
    assert spent_seconds(rows) == 65.0
