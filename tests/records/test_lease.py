"""A lease has one holder and dies with it."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from records import lease as module
from records.lease import Lease, LeaseHeld, is_held

HOLD = """
import sys, time
from records.lease import Lease
lease = Lease(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""
FORK = """
import os, sys, time
from records.lease import Lease
lease = Lease(sys.argv[1]).acquire()
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
RACE = """
import sys, time
from records.lease import Lease, LeaseHeld
while not __import__("os").path.exists(sys.argv[2]):
    pass
try:
    Lease(sys.argv[1]).acquire()
except LeaseHeld:
    print("refused")
else:
    print("held", flush=True)
    time.sleep(2)
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def test_free_held_released(path: Path):
    assert is_held(path) is None
    with Lease(path).acquire() as lease:
        holder = is_held(path)
        assert (holder.pid, holder.host) == (os.getpid(), socket.gethostname())
        assert abs(holder.beat - time.time()) < 5
        lease.beat(3)
        with pytest.raises(LeaseHeld, match=f"held by {os.getpid()}@"):
            Lease(path).acquire()
    assert is_held(path) is None
    Lease(path).acquire().release()


def test_kill_frees_it_at_once(path: Path):
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "held\n"
    assert is_held(path).pid == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_held(path) is None
    Lease(path).acquire().release()


def test_a_forked_child_does_not_keep_it(path: Path):
    holder = start(FORK, path)
    child = int(holder.stdout.readline())
    try:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # still there
        assert is_held(path) is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_of_two_processes_one_gets_it(path: Path, tmp_path: Path):
    go = tmp_path / "go"
    racers = [start(RACE, path, go) for _ in range(2)]
    time.sleep(0.3)
    go.touch()
    answers = sorted(racer.communicate(timeout=20)[0].strip() for racer in racers)
    assert answers == ["held", "refused"]


def test_looking_does_not_disturb_an_acquisition(path: Path):
    looker = open(path, "w")
    fcntl.flock(looker, fcntl.LOCK_SH)  # what is_held does for an instant
    threading.Timer(0.2, looker.close).start()
    Lease(path).acquire().release()
    assert looker.closed


@pytest.mark.parametrize(
    "age, held",
    [(5, True), (59, True), (61, False), (-30, True), (-61, False), (-1e8, False)],
)
def test_another_hosts_heartbeat_decides(path: Path, age: float, held: bool):
    now = time.time()
    elsewhere = {"pid": 7, "host": "elsewhere", "time": now - 1000}
    path.write_text(json.dumps(elsewhere))
    beat = {**elsewhere, "time": now - age, "step": 4}
    path.with_name("heartbeat").write_text(json.dumps(beat))
    if held:
        assert str(is_held(path)) == "7@elsewhere"
        with pytest.raises(LeaseHeld):
            Lease(path).acquire()
        assert json.loads(path.read_text()) == elsewhere, "the refused one wrote"
    else:
        assert is_held(path) is None
        Lease(path).acquire().release()


def test_a_released_lease_is_free_for_other_hosts(path: Path, monkeypatch):
    Lease(path).acquire().release()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert is_held(path) is None


def test_a_disk_that_refuses_keeps_no_lock(path: Path, monkeypatch):
    held = Lease(path).acquire()

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only"):
        held.release()
    monkeypatch.undo()
    Lease(path).acquire().release()


def test_beats_are_at_most_one_a_second(path: Path, monkeypatch):
    with Lease(path).acquire() as lease:
        first = path.with_name("heartbeat").read_text()
        lease.beat(1)
        assert path.with_name("heartbeat").read_text() == first
        monkeypatch.setattr(module, "BEAT", 0.0)
        lease.beat(2)
        assert json.loads(path.with_name("heartbeat").read_text())["step"] == 2


def test_a_process_between_steps_still_beats(path: Path, monkeypatch):
    monkeypatch.setattr(module, "PULSE", 0.05)
    with Lease(path).acquire():
        first = is_held(path).beat
        deadline = time.time() + 5
        while is_held(path).beat == first:
            assert time.time() < deadline, "no heartbeat came"
            time.sleep(0.02)


def test_a_full_disk_does_not_end_the_pulse(path: Path, monkeypatch, capsys):
    """Nor does it leave files behind; the beat goes on when there is room again."""
    monkeypatch.setattr(module, "PULSE", 0.01)
    replace, refused = os.replace, threading.Event()

    def full(source, target):
        refused.set()
        raise OSError(28, "No space left on device", str(target))

    with Lease(path).acquire():
        beat = path.with_name("heartbeat")
        monkeypatch.setattr("os.replace", full)
        assert refused.wait(20)
        monkeypatch.setattr("os.replace", replace)
        before = json.loads(beat.read_text())["time"]
        deadline = time.monotonic() + 20
        while json.loads(beat.read_text())["time"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert list(path.parent.glob(".*")) == []
    assert "No space left" in capsys.readouterr().err
