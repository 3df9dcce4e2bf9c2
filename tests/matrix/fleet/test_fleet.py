"""Forty cells on a fake node of eight GPUs: every process is real but the training."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from gpt2.settings.run import run_settings
from matrix.fleet import host_leases
from matrix.fleet.host_leases import HostLeases, close
from matrix.fleet.machine import survey
from matrix.fleet.place import Pool, numactl_works
from matrix.launch import launcher
from matrix.launch.launcher import Local
from matrix.launch.local import Runner
from matrix.plan import device
from matrix.plan.cells import make_plan
from tests.matrix import trees

STEPS, SEEDS = 5, 8


class Watch:
    """A display that keeps the times of starts and ends, and what was said."""

    def __init__(self):
        self.began, self.ended_at, self.order, self.said = {}, {}, [], []

    def started(self, cell, argv):
        self.order.append(cell)
        self.began[cell.hash] = time.time()

    def waiting(self, cell, holder):
        pass

    def ended(self, cell, outcome, seconds):
        assert outcome.kind == "done", (cell.name, outcome)
        self.ended_at[cell.hash] = time.time()

    def log(self, cell, lines):
        pass

    def say(self, text):
        self.said.append(text)

    def refresh(self):
        pass

    def close(self):
        pass


class Node:
    """The checkout on the fake machine; `run` is one `make`."""

    def __init__(self, checkout, path):
        self.checkout = checkout
        root = trees.amd8(path / "machine")
        self.machine = survey({}, 4, dict, root)
        self.leases = HostLeases(path / "leases")
        for number in range(STEPS):
            rate = f'CONFIG_LEARNING_RATE="{number + 2}e-3"\n'
            checkout.step(f"2{number}-arm", f"# Help: arm {number}\n{rate}")
        stub = Path(__file__).parents[1] / "stub_torchrun.py"
        shutil.copyfile(stub, checkout.root / "gpt2" / "distributed" / "torchrun.py")

    def plan(self, jobs, **environment):
        return make_plan(
            self.checkout.root,
            {"STEPS": "20-24", "SEEDS": f"1-{SEEDS}", "JOBS": str(jobs), **environment},
            lambda: "cuda",
            run_settings,
            cores=2,
        )

    def pool(self, bind=lambda node: False):
        cache = self.checkout.root / "cache"
        return Pool(self.machine.groups, self.leases, dict, bind, cache)

    def run(self, plan):
        watch = Watch()
        local = Local(plan, sys.executable, {"time": 0.0}, self.pool())
        assert Runner(plan, local, watch).run() == 0
        return watch


@pytest.fixture
def node(checkout, tmp_path):
    checkout.configure(
        "CONFIG_DEVICE_CUDA=y", "CONFIG_GPUS_PER_RUN=4", "CONFIG_EFFECTIVE_BATCH=64"
    )
    return Node(checkout, tmp_path)


def spans(record):
    """Start and end of a cell by its own records."""
    start, end = record.attempts
    return start["time"], end["time"]


def placed(record):
    """Where the process that trained the cell was put."""
    return record.attempts[0]["placement"]


def apart(first, second):
    return first[1] <= second[0] or second[1] <= first[0]


def require_separate(records):
    """Never two cells on one GPU, nor on one port; directories and caches differ."""
    by_gpu, by_port = defaultdict(list), defaultdict(list)
    for record in records:
        placement = placed(record)
        nodes = {"A": {0, 1, 2, 3}, "B": {4, 5, 6, 7}}
        assert set(placement["gpus"]) <= nodes[placement["group"]]
        seen = record.attempts[0]["environment"]
        assert seen["HIP_VISIBLE_DEVICES"] == ",".join(map(str, placement["gpus"]))
        assert seen["MASTER_PORT"] == str(placement["port"])
        by_port[placement["port"]].append(spans(record))
        for gpu in placement["gpus"]:
            by_gpu[gpu].append((spans(record), seen["TRITON_CACHE_DIR"]))
    for cells in by_port.values():
        assert all(apart(*pair) for pair in itertools.combinations(cells, 2))
    for cells in by_gpu.values():
        times = [when for when, _ in cells]
        assert all(apart(*pair) for pair in itertools.combinations(times, 2))
        assert len({cache for _, cache in cells}) == 1
    assert len({record.dir.path for record in records}) == len(records)
    return by_gpu


def test_forty_cells_on_two_groups(node):
    node.checkout.stub(steps=2, sleep=0.4)
    watch = node.run(replace(node.plan(jobs=0), jobs=node.pool().capacity(4)))
    records = {r.run["cell"]["hash"]: r for r in node.checkout.cells.values()}
    assert len(records) == 40
    by_gpu = require_separate(records.values())
    assert sorted(by_gpu) == list(range(8))
    busy = defaultdict(float)
    first = min(placed(record)["since"] for record in records.values())
    whole = first, max(watch.began.values())
    for cell in watch.order:
        placement = placed(records[cell.hash])
        end = min(watch.ended_at[cell.hash], whole[1])  # the tail has nothing to start
        busy[placement["group"]] += end - placement["since"]
    shares = {g: seconds / (whole[1] - whole[0]) for g, seconds in busy.items()}
    print("busy:", shares)  # shown by pytest -s
    assert set(shares) == {"A", "B"} and min(shares.values()) >= 0.95, shares
    on = defaultdict(list)
    for number, cell in enumerate(watch.order):
        on[cell.step].append((placed(records[cell.hash])["group"], number % STEPS))
    for step, found in on.items():
        groups = [group for group, _ in found]
        assert 2 <= groups.count("A") <= SEEDS - 2, (step, groups)
        late = sum(place for _, place in found) / SEEDS
        assert 1.0 <= late <= 3.0, (step, found)


def test_the_ranks_of_a_cell_are_started_together(node):
    plan = node.plan(jobs=1, STEPS="20", SEEDS="1")
    node.run(plan)
    (record,) = node.checkout.cells.values()
    command = record.run["command"]
    assert command[1] == str(
        node.checkout.root / "gpt2" / "distributed" / "torchrun.py"
    )
    assert command[command.index("--nproc-per-node") + 1] == "4"
    log = (record.dir.path / "train.log").read_text().splitlines()
    assert log[0].startswith("placed on group A, GPU 0 (0000:11:00.0), 1 (")
    assert log[1] == "attempt 1 from step 0"


def test_two_runners_share_the_node(node):
    """Two `make`s on one study: every cell once, no GPU twice."""
    node.checkout.stub(steps=2, sleep=0.2)
    plan = node.plan(jobs=8, SEEDS="1-2", CONFIG_GPUS_PER_RUN="1")
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            try:
                node.run(plan)
            except BaseException:
                os._exit(1)
            os._exit(0)
    node.run(plan)
    assert os.waitpid(pid, 0)[1] == 0
    records = list(node.checkout.cells.values())
    assert len(records) == 10
    require_separate(records)


def test_a_cell_on_a_bound_node_keeps_its_leases_through_numactl(node, tmp_path):
    """numactl itself, where this machine has it: it hands the leases on."""
    if not numactl_works(0):
        pytest.skip("numactl is not there, or may not bind here")
    node.machine = survey({}, 4, dict, trees.w7900(tmp_path / "one"))
    node.checkout.stub(steps=40, sleep=0.05)
    plan = node.plan(jobs=1, STEPS="20", SEEDS="1", CONFIG_GPUS_PER_RUN="1")
    local = Local(plan, sys.executable, {"time": 0.0}, node.pool(numactl_works))
    slot = local.pool.take(plan.pending[0], print)
    child, argv = local.start(plan.pending[0], slot)
    slot.release()
    assert argv[:3] == ["numactl", "--cpunodebind=0", "--membind=0"]
    assert node.leases.whole("0000:03:00.0") is None
    assert child.process.wait(60) == 0
    assert node.leases.whole("0000:03:00.0") is not None
    log = (child.cell.dir.path / "train.log").read_text()
    assert log.startswith("placed on group A, GPU 0 (0000:03:00.0); numactl: CPUs and")


def test_a_runner_waits_for_a_gpu_and_says_so(node):
    plan = node.plan(jobs=8, STEPS="20", SEEDS="1")
    taken = [fd for gpu in node.machine.gpus for fd in node.leases.whole(gpu.bus)]
    other = subprocess.Popen(["sleep", "1"], pass_fds=taken)
    close(taken)
    watch = node.run(plan)
    assert other.wait() == 0
    assert watch.said == ["every GPU is taken: waiting for one (`make gpus`)"]


def test_make_on_a_fake_node(node, monkeypatch):
    """`make` itself: survey, plan, pool, cells."""
    asked = []

    def survey_(environment, most, build):
        asked.append((environment.get("HIP_VISIBLE_DEVICES"), most))
        return node.machine

    monkeypatch.setattr(launcher, "survey", survey_)
    monkeypatch.setattr(host_leases, "directory", lambda: node.leases.directory)
    monkeypatch.setattr(device, "probe", lambda python: "cuda")
    masked = {"HIP_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    status, output = node.checkout.run(STEPS="20-22", SEEDS="1", **masked)
    assert status == 0, output
    assert "group A: GPU 0, 1, 2, 3\ngroup B: GPU 4, 5, 6, 7\n" in output
    assert "2 cells of 4 GPUs at a time" in output
    assert set(asked) == {(masked["HIP_VISIBLE_DEVICES"], 4)}
    require_separate(node.checkout.cells.values())
    status, output = node.checkout.run(STEPS="23", CONFIG_GPUS_PER_RUN="8")
    assert status == 2 and "no group has so many GPUs (A: 4, B: 4)" in output


@pytest.fixture
def pair(checkout):
    """Cells of two ranks on the CPU, started by gpt2/distributed/torchrun.py itself."""
    checkout.configure("CONFIG_GPUS_PER_RUN=2", "CONFIG_EFFECTIVE_BATCH=64")
    return checkout


@pytest.mark.slow
def test_the_status_of_the_ranks_is_that_of_the_cell(pair):
    """torchrun's own would be 1 for all of them."""
    pair.stub(**{"00-control": "held-once", "02-wide": "crash", "08-hot": "fail"})
    status, output = pair.run(SEEDS="1", JOBS="1")
    assert status == 1
    assert "running elsewhere: 00-control seed-1 in another process" in output
    states = {name[:2]: record.state for name, record in pair.cells.items()}
    assert states == {"00": "done", "02": "failed", "08": "failed"}
    assert "failed  02-wide seed-1  exit status 137 (SIGKILL)" in output
    assert "failed  08-hot seed-1  exit status 1: RuntimeError: told to" in output


@pytest.mark.slow
def test_ranks_are_stopped_and_go_on(pair):
    checkout = pair
    checkout.stub(steps=100_000, sleep=0.05)
    runner = checkout.start(STEPS="0", SEEDS="1")
    deadline = time.monotonic() + 120
    while not any(record.step >= 2 for record in checkout.cells.values()):
        assert time.monotonic() < deadline and runner.poll() is None
        time.sleep(0.1)
    runner.send_signal(signal.SIGTERM)
    output, _ = runner.communicate(timeout=120)
    assert runner.returncode == 143, output
    (record,) = checkout.cells.values()
    assert (record.state, record.failure) == ("interrupted", None), output
    assert "stopped 00-control seed-1" in output
    checkout.stub(steps=record.step + 2, sleep=0.01)
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 0, output
    assert (checkout.root / "rank-1-of-2").exists()


@pytest.mark.slow
def test_ranks_that_do_not_stop_are_killed(pair):
    """Each rank has a session of its own: no signal to a group reaches it."""
    checkout = pair
    checkout.stub(**{"00-control": "stubborn"})
    runner = checkout.start(STEPS="0", SEEDS="1")
    deadline = time.monotonic() + 120
    while not any(record.step >= 1 for record in checkout.cells.values()):
        assert time.monotonic() < deadline and runner.poll() is None
        time.sleep(0.1)
    (record,) = checkout.cells.values()
    runner.send_signal(signal.SIGINT)
    time.sleep(1)
    runner.send_signal(signal.SIGINT)
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130 and "killing" in output
    left = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    commands = [argv(pid) for pid in left]
    assert not [c for c in commands if str(record.dir.path).encode() in c]


def argv(pid):
    try:
        return Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
