"""GPUs and ports of this host, each used by one cell at a time.

A lease is flock(2) on a file of the user's directory /tmp/kablate-UID (not
$XDG_RUNTIME_DIR: cron and an old nohup have none, or lose it at logout). The
descriptor is inherited by the training process, so a lease ends with the process
that uses the GPU, whatever becomes of the runner, and two `make`s of one user
never put two cells on one GPU. Other users are seen by their processes
(matrix/fleet/place.py).
"""

import fcntl
import os
import secrets
import socket
from pathlib import Path

from records import private

PORTS = range(20_000, 30_000)
"""Below the range from which the kernel takes ports for outgoing connections."""


class LeaseDirectoryError(Exception):
    """The per-user directory cannot be used; the message says why."""


class HostLeases:
    """The leases of this user on this host, in `directory`."""

    def __init__(self, directory: Path):
        self.directory = directory

    def whole(self, gpu: str) -> list[int] | None:
        """Descriptors that hold the GPU against everyone; None when it is taken."""
        return self._lock(f"gpu-{gpu}", fcntl.LOCK_EX)

    def part(self, gpu: str, k: int) -> list[int] | None:
        """Descriptors of the k-th cell that shares the GPU; None when it is taken."""
        shared = self._lock(f"gpu-{gpu}", fcntl.LOCK_SH)
        if shared is None:
            return None
        mine = self._lock(f"gpu-{gpu}-part-{k}", fcntl.LOCK_EX)
        if mine is None:
            close(shared)
            return None
        return [*shared, *mine]

    def port(self) -> tuple[int, list[int]]:
        """A TCP port that is free on this host and leased by nobody else.

        The search starts anywhere: users and containers do not see each other's
        leases, and a port is only taken once the ranks meet. Raises
        LeaseDirectoryError when all of PORTS are taken.
        """
        first = secrets.randbelow(len(PORTS))
        for number in [*PORTS[first:], *PORTS[:first]]:
            mine = self._lock(f"port-{number}", fcntl.LOCK_EX)
            if mine and _is_free(number):
                return number, mine
            close(mine or [])
        raise LeaseDirectoryError(f"no free port in {PORTS.start}-{PORTS.stop - 1}")

    def _lock(self, name: str, kind: int) -> list[int] | None:
        self._require_directory()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.directory / f"{name}.lock", flags, 0o600)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        os.utime(fd)  # a lock file in use is not old, for those who tidy /tmp
        return [fd]

    def _require_directory(self) -> None:
        try:
            private.private_folder(self.directory)
        except private.NotPrivate as error:
            raise LeaseDirectoryError(
                f"{error}; the leases of GPUs and ports lie there"
            ) from None


def directory() -> Path:
    """Where the leases of this user lie."""
    return Path("/tmp") / private.shared_name()


def close(descriptors: list[int]) -> None:
    """Close this process' copies; a child that inherited them keeps the lease."""
    for fd in descriptors:
        os.close(fd)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
