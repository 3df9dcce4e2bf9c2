"""Heartbeats that stop: seen by a clock of their own, killed, started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from matrix.launch import local, watchdog
from matrix.launch.child import write_failure
from matrix.launch.watchdog import Watchdog
from records import atomic
from records.layout import CellDir
from tests.matrix.launch.test_runner import children, require_complete, wait_for

LIMIT = "5"


@pytest.fixture
def clock(monkeypatch):
    """now[0] is the monotonic time."""
    now = [100.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def test_a_heartbeat_that_stops_is_seen_once_per_limit(tmp_path, clock):
    cell, dog = CellDir(tmp_path), Watchdog(10)
    assert dog.stalled_for(cell) is None, "the clock starts at the first look"
    clock[0] += 9.9
    assert dog.stalled_for(cell) is None
    cell.progress().write_text("{}\n")
    clock[0] += 1
    assert dog.stalled_for(cell) is None, "the first beat came"
    os.utime(cell.progress(), ns=(1, 1))  # a clock that went back: still a beat
    clock[0] += 9.5
    assert dog.stalled_for(cell) is None
    clock[0] += 10.5
    assert dog.stalled_for(cell) == 10.5
    assert dog.stalled_for(cell) is None, "an answer counts once"
    clock[0] += 9
    dog.forget(cell)
    assert dog.stalled_for(cell) is None
    clock[0] += 9
    assert dog.stalled_for(cell) is None


def test_without_a_limit_nothing_is_still(tmp_path, clock):
    dog = Watchdog(0)
    dog.stalled_for(CellDir(tmp_path))
    clock[0] += 1e9
    assert dog.stalled_for(CellDir(tmp_path)) is None


def test_a_hung_cell_is_killed_and_started_again(checkout):
    checkout.stub(**{"00-control": "stall-once"})
    environment = {"STEPS": "0", "SEEDS": "1", "CONFIG_WATCHDOG_SECONDS": LIMIT}
    status, output = checkout.run(**environment)
    assert status == 0, output
    assert "no heartbeat for" in output and "training at step 0" in output
    assert "ended, starting again" in output
    require_complete(checkout, 3, count=1)
    record = checkout.cells["00-control/seed-1"]
    assert [row["event"] for row in record.attempts] == ["start", "start", "end"]
    stacks = record.dir.stacks.read_text()
    assert "watchdog, " in stacks and "train_ra_mla.py" in stacks
    log = record.dir.train_log.read_text()
    assert re.search(
        r"^watchdog, .*: no heartbeat for .* training at step 0", log, re.M
    )


def test_a_disk_that_takes_no_note_does_not_end_the_runner(tmp_path):
    """It may be what the cell hangs on."""
    for name in ("stacks.txt", "train.log"):
        (tmp_path / name).mkdir()  # what even root cannot append to
    why = watchdog.note(CellDir(tmp_path), "no heartbeat")
    assert why.startswith("no heartbeat (stacks.txt cannot be written: ")
    assert "(train.log cannot be written: " in why
    assert watchdog.dump(CellDir(tmp_path)) == []


def test_a_cell_that_always_hangs_fails_in_the_end(checkout):
    checkout.stub(**{"00-control": "stall"})
    status, output = checkout.run(
        STEPS="0",
        SEEDS="1",
        CONFIG_WATCHDOG_SECONDS=LIMIT,
        CONFIG_WATCHDOG_RETRIES="1",
    )
    assert status == 1 and output.count("starting again") == 1
    record = checkout.cells["00-control/seed-1"]
    assert record.state == "failed" and "no heartbeat for" in record.reason
    assert len(record.attempts) == 2


def test_a_stopped_process_says_where_it_was(checkout):
    """Its runner was killed, too: the next one waits for it, and no longer."""
    checkout.stub(steps=400, sleep=0.02)
    runner = checkout.start(STEPS="0", SEEDS="1")
    wait_for(lambda: any(r.step >= 2 for r in checkout.cells.values()))
    (pid,) = children(checkout)
    os.kill(pid, signal.SIGSTOP)
    runner.kill()
    runner.wait()
    checkout.stub(steps=10)
    status, output = checkout.run(STEPS="0", SEEDS="1", CONFIG_WATCHDOG_SECONDS=LIMIT)
    assert status == 0, output
    assert f"running elsewhere: 00-control seed-1 in {pid}@" in output
    assert "ended, starting again" in output
    (record,) = checkout.cells.values()
    assert record.state == "done" and len(record.attempts) == 3
    assert "train_ra_mla.py" in record.dir.stacks.read_text()


def test_a_number_that_came_again_is_not_killed(tmp_path):
    cell, stranger = CellDir(tmp_path), subprocess.Popen(["sleep", "600"])
    command = Path(f"/proc/{stranger.pid}/cmdline")
    try:
        wait_for(command.read_bytes)  # empty in the instant of its exec
        row = {"attempt": 1, "pid": stranger.pid, "time": 1.0, "step": 0, "phase": "x"}
        cell.progress().write_text(json.dumps(row) + "\n")
        assert watchdog._pids(cell) == [stranger.pid]
        assert watchdog.dump(cell) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_who_mentions_a_cell_does_not_train_it(tmp_path):
    """An editor of its log, a pager, another cell whose name begins like this one."""
    cell = CellDir(tmp_path / "0123abcd")
    wait = "import time; time.sleep(600)"
    for word, trains in (
        (cell.train_log, False),
        (f"{cell.path}e", False),
        (cell.path, True),
    ):
        other = subprocess.Popen([sys.executable, "-c", wait, str(word)])
        try:
            command = Path(f"/proc/{other.pid}/cmdline")
            wait_for(lambda: str(word).encode() in command.read_bytes())
            assert watchdog._trains(other.pid, cell) == trains
        finally:
            other.kill()
            other.wait()


def test_diverged_cells_are_left_alone_until_asked_for(checkout):
    checkout.stub(**{"02-wide": "diverge"})
    status, output = checkout.run(SEEDS="1", FAIL_FAST="1")
    assert status == 1 and "diverged 02-wide seed-1" in output
    done = [r.state for r in checkout.cells.values()]
    assert sorted(done) == ["diverged", "done", "done"], "FAIL_FAST is for failures"
    status, output = checkout.run(SEEDS="1")
    assert status == 1 and "1 diverged cell left alone" in output
    assert "start " not in output
    checkout.stub()
    status, output = checkout.run(SEEDS="1", RETRY_DIVERGED="1")
    assert status == 0 and output.count("start ") == 1


def test_a_clock_that_was_ahead_does_not_hold_a_cell_back(checkout):
    """A failure recorded in the future is still one of before."""
    checkout.stub(**{"00-control": "fail"})
    assert checkout.run(STEPS="0", SEEDS="1")[0] == 1
    (record,) = checkout.cells.values()
    text = record.dir.failure.read_text()
    late = text.replace(
        f'"time": {record.failure["time"]}', f'"time": {time.time() + 9e5}'
    )
    assert late != text
    record.dir.failure.write_text(late)
    checkout.stub()
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 0, output


def test_a_failure_that_cannot_be_recorded_is_said(checkout, monkeypatch):
    write = atomic.write_json

    def full(path, value):
        if path.name == "failure.json":
            raise OSError(28, "No space left on device")
        write(path, value)

    monkeypatch.setattr(atomic, "write_json", full)
    checkout.stub(**{"00-control": "crash"})
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 1 and "failure.json cannot be written" in output
    (record,) = checkout.cells.values()
    assert record.state == "interrupted"


def test_what_happens_behind_a_summary_is_no_failure(checkout):
    """A cell that hung in its clean-up for the last time is done."""
    assert checkout.run(STEPS="0", SEEDS="1")[0] == 0
    plan = checkout.plan(STEPS="0", SEEDS="1", CONFIG_WATCHDOG_RETRIES="0")
    (cell,) = plan.cells
    seen = []
    show = SimpleNamespace(
        ended=lambda cell, outcome, seconds: seen.append(outcome), log=print
    )
    runner = local.Runner(plan, SimpleNamespace(order=list), show)
    runner._restart(cell, "nothing for 9 s")
    assert [outcome.kind for outcome in seen] == ["done"]
    assert write_failure(cell.dir, -9, "killed by SIGKILL") == ""
    assert not cell.dir.failure.exists()
    assert checkout.cells["00-control/seed-1"].state == "done"


def test_the_plan_says_what_make_will_still_do(checkout):
    """And make does it; a cell that is whole is passed over."""
    assert checkout.run(STEPS="0", SEEDS="1-2")[0] == 0
    first, second = checkout.plan(STEPS="0", SEEDS="1-2").cells
    record = {"attempt": 1, "status": "failed", "error": "no"}
    atomic.write_json(first.dir.failure, record)
    (first.dir.path / ".summary.json.0a1b2c3d.tmp").touch()
    told = [cell.reason for cell in checkout.plan(STEPS="0", SEEDS="1-2").cells]
    left = "remove a failure.json that it overrules, remove 1 half-written file"
    assert told == [f"done, 3 steps; make will {left}", "done, 3 steps"]
    assert left in " ".join(checkout.run("plan", STEPS="0", SEEDS="1-2")[1].split())
    assert first.dir.failure.exists()
    status, output = checkout.run(STEPS="0", SEEDS="1-2")
    assert status == 0 and output.count("settled: ") == 1
    assert f"{first.name}: settled: {left}" in output
    again = checkout.plan(STEPS="0", SEEDS="1-2").cells
    assert [cell.reason for cell in again] == ["done, 3 steps"] * 2
    assert not first.dir.failure.exists() and not second.dir.heartbeat.exists()
