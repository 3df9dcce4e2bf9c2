"""Cells of several ranks, as tests start and read them."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from records.jsonl import last_per_step, read_rows
from tests.conftest import ROOT

TRAIN_CELLS = ROOT / "tests" / "gpt2" / "train_cells.py"
ENTRY = ROOT / "gpt2" / "train_ra_mla.py"


def launch(ranks, script, *arguments):
    """A process that runs the script as that many ranks on this host."""
    torchrun = [str(ROOT / "gpt2" / "distributed" / "torchrun.py"), "--standalone"]
    torchrun += ["--nproc-per-node", str(ranks)]
    return start([*torchrun, str(script), *map(str, arguments)])


def start(arguments, **environment):
    """A python process, with one thread and these variables."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process, seconds=300):
    """Everything the processes said, once they have ended."""
    output, _ = process.communicate(timeout=seconds)
    return output


def pids(launcher):
    """The process ids of the ranks, in their order."""
    found = {}
    for line in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").open():
        for pid in map(int, line.split()):
            raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
            environment = dict(v.split("=", 1) for v in raw.split("\0") if "=" in v)
            if "RANK" in environment:
                found[int(environment["RANK"])] = pid
    return [found[rank] for rank in sorted(found)]


def listening(pid):
    """{(address, port)} of the TCP sockets on which a process listens."""
    files = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            files.add(os.readlink(path))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in files:
                address, _, port = local.partition(":")
                words = [address[i : i + 8] for i in range(0, len(address), 8)]
                raw = b"".join(bytes.fromhex(word)[::-1] for word in words)
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def rows(directory, kind):
    """The rows of a kind, one per step."""
    return last_per_step(read_rows(directory / "metrics.jsonl"), kind)


def wait_for_step(directory, step, process):
    """Until the cell has logged that training step."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        path = directory / "metrics.jsonl"
        if path.exists() and any(
            row["kind"] == "train" and row["step"] >= step for row in read_rows(path)
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached: {process.communicate()[0]}")
