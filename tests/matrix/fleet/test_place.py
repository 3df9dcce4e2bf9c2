"""Slots: what a cell runs on, who gets it, and in which order."""

import json
import os
from collections import Counter, deque
from types import SimpleNamespace

import pytest

from matrix.fleet import place
from matrix.fleet.host_leases import HostLeases
from matrix.fleet.machine import survey
from matrix.fleet.place import PlaceError, Pool, Slot
from tests.matrix import trees

UNBOUND = {"vendor": "amd", "gpus": []}


def cell(step="a", seed=1, ranks=1, device="cuda"):
    values = {"GPUS_PER_RUN": ranks}
    return SimpleNamespace(step=step, seed=seed, values=values, device=device)


class Fleet:
    """A pool over a fake machine."""

    def __init__(self, path, tree=trees.amd8, parts=1, bind=False, environment=None):
        self.root = tree(path / "root")
        self.users, self.said = {}, []
        self.machine = survey(environment or {}, 4, lambda: UNBOUND, self.root)
        self.leases = HostLeases(path / "leases")
        self.cache = path / "cache"
        self.pool = self.another(parts, bind)

    def another(self, parts=1, bind=False):
        groups = self.machine.groups
        return Pool(
            groups,
            self.leases,
            lambda: self.users,
            lambda node: bind,
            self.cache,
            parts,
        )

    def take(self, pool=None, **asked):
        return (pool or self.pool).take(cell(**asked), self.said.append)

    def all(self, **asked):
        return list(iter(lambda: self.take(**asked), None))


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


def numbers(slots):
    return [[gpu.index for gpu in slot.gpus] for slot in slots]


def test_single_gpus_take_the_groups_in_turn(fleet):
    slots = fleet.all()
    assert numbers(slots) == [[0], [4], [1], [5], [2], [6], [3], [7]]
    assert len({slot.port for slot in slots}) == 8
    assert len({slot.cache for slot in slots}) == 8
    slots[3].release()
    assert numbers(fleet.all()) == [[5]]


@pytest.mark.parametrize(
    "ranks, found",
    [
        (2, [[0, 1], [4, 5], [2, 3], [6, 7]]),
        (3, [[0, 1, 2], [4, 5, 6]]),
        (4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ],
)
def test_several_gpus_are_neighbours_of_one_node(fleet, ranks, found):
    assert fleet.pool.capacity(ranks) == len(found)
    assert numbers(fleet.all(ranks=ranks)) == found


def test_more_gpus_than_a_group_has(fleet):
    with pytest.raises(PlaceError, match=r"GPUS_PER_RUN=5.*A: 4, B: 4"):
        fleet.pool.capacity(5)


def test_wide_and_narrow_cells_together(fleet):
    narrow = fleet.take()
    wide = fleet.all(ranks=4)
    assert numbers([narrow, *wide]) == [[0], [4, 5, 6, 7]]
    assert numbers(fleet.all()) == [[1], [2], [3]]


def test_two_makes_share_the_gpus(fleet):
    other = fleet.another()
    mine, theirs = fleet.take(), fleet.take(other)
    assert numbers([mine, theirs]) == [[0], [4]]
    assert mine.port != theirs.port
    fleet.all()
    assert fleet.take(other) is None


def test_cells_share_a_gpu_only_when_asked(tmp_path):
    fleet = Fleet(tmp_path, trees.a10g4, parts=2)
    assert fleet.pool.capacity(1) == 8
    slots = fleet.all()
    assert numbers(slots) == [[0], [1], [2], [3]] * 2, "spread first"
    assert [slot.part for slot in slots] == [0] * 4 + [1] * 4
    assert len({slot.cache for slot in slots}) == 8
    assert fleet.take(fleet.another()) is None, "a whole GPU beside shared ones"
    slots[0].release()
    slots[4].release()
    assert fleet.take(ranks=2) is None, "GPU 1 is shared"
    slots[1].release()
    slots[5].release()
    assert numbers([fleet.take(ranks=2)]) == [[0, 1]]
    assert fleet.take() is None, "a cell of two GPUs shares none"


def test_a_gpu_that_others_use_is_left_alone_and_said_once(fleet, monkeypatch):
    monkeypatch.setattr(place, "CHECK", 0.0)
    fleet.users = {"0000:11:00.0": (os.getpid(),)}
    assert numbers([fleet.take()]) == [[4]] and fleet.said == []
    assert numbers([fleet.take()]) == [[1]]
    fleet.take()
    assert len(fleet.said) == 1
    assert fleet.said[0].startswith("GPU 0 (0000:11:00.0) is left alone: in use by ")
    fleet.users = {}
    assert [0] in numbers(fleet.all()), "free again"


def test_a_busy_gpu_is_not_asked_about_all_the_time(fleet, monkeypatch):
    asked = []
    fleet.users = SimpleNamespace(get=lambda bus: asked.append(bus) or (1,))
    assert fleet.take() is None
    assert fleet.take() is None
    assert len(asked) == 8


def test_the_command_the_mask_and_the_record(fleet):
    fleet.take()
    slot = fleet.take(ranks=2)
    argv = slot.command("py", ["/code/train.py", "--run-dir", "d"])
    assert argv == [
        *("py", "/code/distributed/torchrun.py", "--nnodes", "1"),
        *("--nproc-per-node", "2", "--master-addr", "127.0.0.1"),
        *("--master-port", str(slot.port), "/code/train.py", "--run-dir", "d"),
    ]
    found = slot.environment({"CUDA_VISIBLE_DEVICES": "", "HOME": "/h"})
    assert json.loads(found.pop("KABLATE_PLACEMENT")) == slot.record()
    assert found == {
        "HOME": "/h",
        "HIP_VISIBLE_DEVICES": "4,5",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(slot.port),
        "TRITON_CACHE_DIR": str(fleet.cache / "triton/0000-8b-00.0+0000-aa-00.0"),
        "TORCHINDUCTOR_CACHE_DIR": str(fleet.cache / "inductor"),
    }
    mine = {"TRITON_CACHE_DIR": "/mine", "TORCHINDUCTOR_CACHE_DIR": "/too"}
    assert mine.items() <= slot.environment(mine).items()
    record = slot.record()
    assert (record["group"], record["node"], record["gpus"]) == ("B", 1, [4, 5])


def test_numactl_binds_cpus_and_memory(tmp_path):
    slot = Fleet(tmp_path, bind=True).take()
    assert slot.command("py", ["x"]) == [
        *("numactl", "--cpunodebind=0", "--membind=0", "py", "x")
    ]
    assert slot.line() == (
        "placed on group A, GPU 0 (0000:11:00.0); numactl: CPUs and memory of node 0"
    )


def test_without_numactl_the_affinity_is_set(tmp_path, monkeypatch):
    fleet = Fleet(tmp_path, trees.w7900)
    mine = frozenset(os.sched_getaffinity(0))
    slot = fleet.take()
    one = frozenset([min(mine)])
    monkeypatch.setattr(Slot, "_cpus", one)
    with slot.bound():
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == mine
    assert slot.command("py", ["x"]) == ["py", "x"]
    assert slot.binding == "affinity: CPUs of node 0, memory unbound"


def test_without_numa_nothing_is_bound(tmp_path):
    slot = Fleet(tmp_path, trees.no_numa, bind=True).take()
    assert slot.command("py", ["x"]) == ["py", "x"]
    assert slot.binding == "unbound: no NUMA node known"


def test_the_cpu_needs_no_pool(tmp_path):
    fleet = Fleet(tmp_path, trees.cpu_only)
    slot = fleet.take(device="cpu")
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(fleet.cache / "inductor")}
    assert slot.environment({"A": "b"}) == {"A": "b", **cache}
    assert slot.record() is None and slot.line() is None
    assert not fleet.leases.directory.exists()
    ranks = fleet.take(device="cpu", ranks=2)
    assert ranks.environment({})["MASTER_PORT"] == str(ranks.port)
    cells = [cell(s, n, device="cpu") for n in (1, 2) for s in "abc"]
    assert fleet.pool.order(cells, (1, 2)) == cells


def test_the_order_of_arms_is_balanced_over_time(fleet):
    steps, seeds = "abcdef", (1, 2, 3, 4)
    cells = [cell(s, n) for n in seeds for s in steps]
    ordered = fleet.pool.order(cells, seeds)
    assert sorted(map(id, ordered)) == sorted(map(id, cells))
    assert [c.seed for c in ordered] == sorted(c.seed for c in cells)
    places = {s: [n % 6 for n, c in enumerate(ordered) if c.step == s] for s in steps}
    assert {sum(found) for found in places.values()} == {10}, "none always late"
    assert len({ordered[6 * n].step for n in range(4)}) == 4, "none always first"


def test_arms_take_turns_on_the_groups(fleet):
    """Two groups, an even number of arms: position alone would always repeat."""
    queue = deque(cell(s, n, ranks=4) for n in range(6) for s in "abcd")
    ran = Counter()
    while queue:
        slots = [fleet.take(ranks=4) for _ in range(2)]
        for slot in slots:
            front = queue[0]
            chosen = fleet.pool.choose(queue, slot)
            assert chosen.seed == front.seed
            fleet.pool.started(chosen, slot)
            ran[chosen.step, slot.group.name] += 1
            slot.release()
    assert ran == {(s, g): 3 for s in "abcd" for g in "AB"}


def test_only_cells_of_the_same_need_are_chosen(fleet):
    queue = deque([cell("a", ranks=2), cell("b"), cell("c", ranks=2)])
    slot = fleet.take(ranks=2)
    fleet.pool.started(cell("a"), slot)
    assert fleet.pool.choose(queue, slot).step == "c"
    assert [each.step for each in queue] == ["a", "b"]


def test_numactl_is_asked_whether_it_may(monkeypatch, tmp_path):
    numactl = tmp_path / "numactl"
    numactl.write_text('#!/bin/sh\n[ "$1" = --cpunodebind=0 ]\n')
    numactl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    place.numactl_works.cache_clear()
    assert place.numactl_works(0) and not place.numactl_works(1)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    place.numactl_works.cache_clear()
    assert not place.numactl_works(0)
    place.numactl_works.cache_clear()
