"""Where the processes of a cell listen: on one host, where no other machine reaches."""

import os
import signal
import socket

import pytest

from gpt2.check import run
from gpt2.check.two_processes import PartnerLost
from gpt2.distributed import torchrun
from gpt2.distributed.ranks import LOOPBACK
from matrix.fleet import torchrun as command
from tests.conftest import ROOT
from tests.gpt2.ranks import ENTRY, finish, listening, pids, start, wait_for_step

TWO = {
    "GPUS_PER_RUN": "2",
    "EFFECTIVE_BATCH": "8",
    "BATCH_SIZE": "4",
    "GPT2_MAX_ITERS": "100000",
    "CHECKPOINT_INTERVAL": "0",
}


@pytest.mark.parametrize("libuv", ["1", "0"])
def test_two_ranks_listen_on_the_loopback_alone(cell, corpus, libuv):
    """Both of the store's servers; the port is the one the runner leased."""
    directory = cell(**TWO)
    script = [str(ENTRY), "--run-dir", str(directory), "--data-dir", str(corpus)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(command.local("", 2, port, script)[1:], USE_LIBUV=libuv)
    try:
        wait_for_step(directory, 1, process)
        store, *both = [listening(pid) for pid in (process.pid, *pids(process))]
    finally:
        process.send_signal(signal.SIGTERM)
        said = finish(process)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert ("127.0.0.1", port) in store
    assert both[0] and both[1], "gloo listens"
    assert {address for address, _ in store | both[0] | both[1]} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "asked, port",
    [
        (["--standalone"], 0),
        (["--standalone", "--local-addr", "10.0.0.1"], 0),
        (["--nnodes", "1", "--master-addr", "10.0.0.1", "--master-port", "29"], 29),
        (["--nnodes", "1:1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "h:1"], 0),
        (["--nnodes", "1", "--rdzv-backend", "static"], 0),
        ([], 0),
    ],
)
def test_however_one_host_is_asked_for(asked, port):
    options = torchrun.parsed([*asked, "x.py"])
    torchrun.meet_here(options)
    assert (options.rdzv_backend, options.standalone) == ("loopback", False)
    assert options.rdzv_endpoint == f"127.0.0.1:{port}"


@pytest.mark.parametrize("usual, taken", [(29500, None), (None, None), (30, 30)])
def test_a_port_that_nobody_asked_for_is_any(monkeypatch, usual, taken):
    """Whatever this torch would take: two runs of a host must not meet. (PET_… sets
    another.)
    """
    made = torchrun.run.get_args_parser

    def fixed():
        parser = made()
        parser.set_defaults(master_port=usual)
        return parser

    monkeypatch.setattr(torchrun.run, "get_args_parser", fixed)
    assert torchrun.parsed(["x.py"]).master_port == taken
    assert torchrun.parsed(["--master-port", "29", "x.py"]).master_port == 29


@pytest.mark.parametrize("nodes", ["2", "1:2"])
def test_several_hosts_meet_where_they_are_told_to(nodes):
    asked = ["--nnodes", nodes, "--rdzv-backend", "c10d", "--rdzv-endpoint", "h:1"]
    options = torchrun.parsed([*asked, "x.py"])
    torchrun.meet_here(options)
    assert (options.rdzv_backend, options.rdzv_endpoint) == ("c10d", "h:1")
    assert options.master_port == 29500


def test_the_two_processes_of_a_check_meet_there_too(monkeypatch):
    environment = {k: v for k, v in os.environ.items() if k not in LOOPBACK}
    seen = {}

    def started():
        seen.update(os.environ)
        raise PartnerLost

    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(run, "Pair", started)
    assert run.check(ROOT, "0", False, False, 0.0) == 1
    assert seen["GLOO_SOCKET_IFNAME"] == seen["NCCL_SOCKET_IFNAME"] == "lo"
