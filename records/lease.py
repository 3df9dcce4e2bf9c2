"""Who is training a cell: a lock that dies with its process.

The training process itself holds the lease, so a dead runner with a live
child is seen. On one host flock(2) on the file `lease` decides; the kernel
frees it however the process ends. A heartbeat file beside it tells other
hosts, where the file system may not carry the lock: a lease of another host
whose heartbeat is younger than STALE seconds is held.

The lease file is never removed (removing a locked file would let two
processes lock two different files of one name).
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from records import atomic
from records.durations import duration
from records.fields import LEASE
from records.files import open_record, read_bytes
from records.layout import read_json

STALE = 60.0
"""Seconds without a heartbeat after which another host's lease is free."""
BEAT = 1.0
"""Least seconds between two writes of the heartbeat."""
PULSE = 10.0
"""Seconds between the heartbeats of a process that completes no step."""
PATIENCE = 1.0
"""Seconds `acquire` keeps trying: `holder` locks the file for an instant."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease. Times are unix seconds; `beat` may be None."""

    pid: int
    host: str
    since: float
    beat: float | None

    def __str__(self) -> str:
        return f"{self.pid}@{self.host}"


class LeaseHeld(Exception):
    """The lease belongs to another process. Attributes: path, holder."""

    def __init__(self, path: Path, holder: Holder):
        self.path, self.holder = path, holder
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(holder.since))
        super().__init__(f"{path}: held by {holder} since {since}")


class Lease:
    """The lease of one cell; `path` is CellDir.lease."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._fd = -1
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self._written, self._step = 0.0, 0

    def acquire(self, info: Mapping[str, Any] | None = None) -> "Lease":
        """Take the lease; `info` is stored beside pid, host and time.

        Raises LeaseHeld when another process has it, on this host or another.
        """
        if self._fd >= 0:
            raise RuntimeError(f"{self.path}: this object holds the lease already")
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(fd)
            elsewhere = _holder_elsewhere(self.path)
            if elsewhere:
                raise LeaseHeld(self.path, elsewhere)
            self._fd = fd
            self._write_beat()  # before the name: no instant without a young beat
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({**(info or {}), **_myself()}).encode(), 0)
        except BaseException:
            self._fd = -1
            os.close(fd)
            raise
        os.register_at_fork(after_in_child=self._forget)
        self._stop.clear()
        threading.Thread(target=self._pulse, name="lease", daemon=True).start()
        return self

    def _lock(self, fd: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LeaseHeld(self.path, _recorded(self.path)) from None
                time.sleep(0.02)

    def beat(self, step: int) -> None:
        """Say that the process lives and how far it is; cheap, call each step."""
        self._step = step
        if time.monotonic() - self._written >= BEAT:
            self._write_beat()

    def release(self) -> None:
        """Give the lease back; a second call does nothing."""
        if self._fd < 0:
            return
        self._stop.set()
        with self._mutex:
            try:
                _beat_path(self.path).unlink(missing_ok=True)
            finally:  # a disk that refuses keeps no lock
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> "Lease":
        return self if self._fd >= 0 else self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _pulse(self) -> None:
        while not self._stop.wait(PULSE):
            try:
                self._write_beat()
            except OSError as error:  # a full disk may have room again later
                print(f"lease: {error}", file=sys.stderr)

    def _write_beat(self) -> None:
        with self._mutex:
            if self._fd < 0:
                return
            beat = json.dumps({**_myself(), "step": self._step}).encode()
            atomic.write_bytes(_beat_path(self.path), beat, durable=False)
            self._written = time.monotonic()

    def _forget(self) -> None:
        """In a forked child: a lock must not outlive the process that took it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_held(path: Path | str) -> Holder | None:
    """The process that holds the lease at `path`, None when it is free.

    Raises RecordError for files that no lease writes.
    """
    path = Path(path)
    try:
        file = open_record(path)
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _recorded(path)
    return _holder_elsewhere(path)


def skew(path: Path | str) -> str:
    """What to say of a heartbeat of another host that lies in the future; "" of any
    other. It is not young: how old it is, nobody can tell.
    """
    holder = _recorded(Path(path))
    if holder.host == socket.gethostname() or holder.beat is None:
        return ""
    ahead = holder.beat - time.time()
    if ahead < STALE:
        return ""
    return (
        f"{holder} wrote the last heartbeat, and its clock is {duration(ahead)} ahead"
    )


def _myself() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}


def _beat_path(path: Path) -> Path:
    return path.with_name("heartbeat")


def _load(path: Path) -> dict[str, Any] | None:
    """The file's record; None where there is none, and while it is being written: an
    acquisition empties the file first. Raises RecordError.
    """
    try:
        if not read_bytes(path).strip(b"\0"):  # zeros: what a power cut leaves
            return None
        return read_json(path, LEASE)
    except FileNotFoundError:
        return None


def _recorded(path: Path) -> Holder:
    """Whom the files name; pid 0 in the instant before the holder wrote them."""
    lease, beat = _load(path), _load(_beat_path(path))
    named = lease or beat or {}
    return Holder(
        named.get("pid", 0),
        named.get("host", socket.gethostname()),
        named.get("time", time.time()),
        beat and beat["time"],
    )


def _holder_elsewhere(path: Path) -> Holder | None:
    """A holder on another host whose heartbeat is young: less than STALE seconds from
    now, to either side, for clocks differ. One from the future holds nothing.
    """
    holder = _recorded(path)
    if holder.host == socket.gethostname() or holder.beat is None:
        return None
    return holder if abs(time.time() - holder.beat) < STALE else None
