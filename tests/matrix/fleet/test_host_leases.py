"""A lease belongs to the process that uses the GPU, whatever becomes of others."""

import os
import socket
import subprocess
import sys

import pytest

from matrix.fleet.host_leases import HostLeases, LeaseDirectoryError, close, directory


@pytest.fixture
def leases(tmp_path):
    return HostLeases(tmp_path / "leases")


def test_a_gpu_is_leased_once(leases):
    first = leases.whole("g")
    other = HostLeases(leases.directory)
    assert other.whole("g") is None and other.part("g", 0) is None
    assert other.whole("h") is not None
    close(first)
    assert other.whole("g") is not None


def test_parts_share_a_gpu_and_keep_the_whole_away(leases):
    first, second = leases.part("g", 0), leases.part("g", 1)
    assert first and second and leases.part("g", 0) is None
    assert leases.whole("g") is None
    close(first)
    assert leases.whole("g") is None and leases.part("g", 0)


def test_a_lease_lives_as_long_as_the_child_that_inherited_it(leases):
    held = leases.whole("g")
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held
    )
    close(held)
    assert leases.whole("g") is None
    child.communicate(b"\n")
    assert leases.whole("g") is not None


def test_a_child_that_was_not_given_the_lease_does_not_keep_it(leases):
    held = leases.whole("g")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    close(held)
    assert leases.whole("g") is not None
    child.communicate(b"\n")


def test_ports_are_free_and_differ(leases):
    numbers = [leases.port()[0] for _ in range(20)]
    assert len(set(numbers)) == 20
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
    for number in numbers:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", number))


def test_who_does_not_see_our_leases_looks_elsewhere(tmp_path):
    """Other users, and containers on the host's network: a port is free until used."""
    strangers = [HostLeases(tmp_path / str(n)) for n in range(40)]
    numbers = {stranger.port()[0] for stranger in strangers}
    assert len(numbers) >= 38, "chance: 3 pairs meet in one of 10,000 tries"


def test_a_port_in_use_is_not_leased(leases, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        monkeypatch.setattr("matrix.fleet.host_leases.PORTS", range(number, number + 1))
        with pytest.raises(LeaseDirectoryError, match="no free port"):
            leases.port()
    assert leases.port()[0] == number, "the lease that led nowhere was given back"


def test_a_directory_of_somebody_else(leases, monkeypatch):
    leases.whole("g")
    leases.directory.chmod(0o770)
    with pytest.raises(LeaseDirectoryError, match="has mode 770: others may write"):
        leases.whole("h")
    leases.directory.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(LeaseDirectoryError, match="belongs to uid [0-9]+: .* remove"):
        leases.whole("h")
    assert str(directory()) == "/tmp/kablate-4711"
