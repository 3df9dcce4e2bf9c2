"""Who runs where: each cell gets one GPU, or neighbours below one NUMA node.

A slot is what a cell runs on: its GPUs (leased, so that two `make`s share them),
a mask, the CPUs and the memory of their node, a port for its ranks, a Triton
cache of its own. Arms are spread over groups and over time, so that no arm always
runs on one group or always late.
"""

import functools
import json
import os
import shutil
import subprocess
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from matrix.fleet import host_leases, visible_devices
from matrix.fleet import torchrun
from matrix.fleet.host_leases import HostLeases
from matrix.fleet.topology import Gpu, Group, process_name
from matrix.plan.cells import Cell
from records.provenance import PLACEMENT

CHECK = 1.0
"""Seconds between two looks at a GPU that others use."""

Users = Callable[[], Mapping[str, tuple[int, ...] | None]]
"""{GPU's bus: processes that compute on it now}."""
Bind = Callable[[int], bool]
"""Whether numactl can bind a process to this node."""


class PlaceError(Exception):
    """Cells that fit nowhere on this machine; the message says why."""


@dataclass
class Slot:
    """What one cell runs on. Without GPUs: the CPU, as the system schedules it."""

    ranks: int = 1
    group: Group | None = None
    gpus: tuple[Gpu, ...] = ()
    part: int = 0
    numactl: bool = False
    port: int | None = None
    cache: Path | None = None
    inductor: Path | None = None
    descriptors: list[int] = field(default_factory=list)
    since: float = field(default_factory=time.time)

    def command(self, python: str, script: Sequence[str]) -> list[str]:
        """The argv that runs `script` here, on every rank."""
        argv = [python, *script]
        if self.ranks > 1:
            argv = torchrun.local(python, self.ranks, self.port, script)
        if self.numactl:
            node = self.group.node
            argv = ["numactl", f"--cpunodebind={node}", f"--membind={node}", *argv]
        return argv

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with the mask, the port and the caches of this slot."""
        found = dict(base)
        if self.inductor is not None:
            found.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.inductor))
        if self.port is not None:
            found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port)}
        if self.gpus:
            found = visible_devices.mask(self.gpus, found)
            found.setdefault("TRITON_CACHE_DIR", str(self.cache))
            found[PLACEMENT] = json.dumps(self.record())
        return found

    @property
    def binding(self) -> str:
        """How the cell is bound to CPUs and memory."""
        if self.numactl:
            return f"numactl: CPUs and memory of node {self.group.node}"
        if self._cpus:
            return f"affinity: CPUs of node {self.group.node}, memory unbound"
        return "unbound: no NUMA node known"

    def line(self) -> str | None:
        """What train.log says of the placement; None on the CPU."""
        if not self.gpus:
            return None
        names = ", ".join(f"{gpu.index} ({gpu.bus})" for gpu in self.gpus)
        return f"placed on group {self.group.name}, GPU {names}; {self.binding}"

    def record(self) -> dict[str, Any] | None:
        """For attempts.jsonl; None on the CPU."""
        if not self.gpus:
            return None
        return {
            "group": self.group.name,
            "node": self.group.node,
            "gpus": [gpu.index for gpu in self.gpus],
            "buses": [gpu.bus for gpu in self.gpus],
            "part": self.part,
            "binding": self.binding,
            "port": self.port,
            "since": self.since,
        }

    @contextmanager
    def bound(self) -> Iterator[None]:
        """A process started inside inherits the affinity of the slot."""
        if self.numactl or not self._cpus:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cpus)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    @property
    def _cpus(self) -> frozenset[int]:
        cpus = self.group.cpus if self.group else frozenset()
        return cpus & os.sched_getaffinity(0)

    def release(self) -> None:
        """Close this process' copies of the leases: free unless a child has them."""
        host_leases.close(self.descriptors)
        self.descriptors = []


class Pool:
    """The GPUs of the groups, shared with every other `make` of this user."""

    def __init__(
        self,
        groups: Sequence[Group],
        leases: HostLeases,
        users: Users,
        bind: Bind,
        cache: Path,
        runs_per_gpu: int = 1,
    ):
        self.groups, self.parts = tuple(groups), runs_per_gpu
        self._leases, self._users, self._bind = leases, users, bind
        self._triton, self._inductor = cache / "triton", cache / "inductor"
        self._ran: Counter[tuple[str, str]] = Counter()
        self._busy: dict[str, float] = {}
        self._reported: set[str] = set()

    def capacity(self, ranks: int) -> int:
        """Cells of this many GPUs at a time; PlaceError when it is none."""
        found = len(self._chunks(ranks)) * (self.parts if ranks == 1 else 1)
        if not found:
            sizes = ", ".join(f"{g.name}: {len(g.gpus)}" for g in self.groups)
            raise PlaceError(
                f"CONFIG_GPUS_PER_RUN={ranks}: no group has so many GPUs "
                f"({sizes or 'no GPU'}); `make gpus` prints them, "
                "CONFIG_MAX_GPUS_PER_RUN is their size"
            )
        return found

    def order(self, cells: Sequence[Cell], seeds: Sequence[int]) -> list[Cell]:
        """Seeds in order; within them the arms forwards, backwards, and shifted.

        The second seed of a pair runs its arms in reverse, so that a drift of the
        machine cancels; each pair of seeds starts with another arm. Cells of the
        CPU keep the plan's order.
        """
        if all(cell.device == "cpu" for cell in cells):
            return list(cells)
        turns = (len(seeds) + 1) // 2
        found: list[Cell] = []
        for n, seed in enumerate(seeds):
            block = [cell for cell in cells if cell.seed == seed]
            shift = (n // 2) * len(block) // turns
            block = block[shift:] + block[:shift]
            found += reversed(block) if n % 2 else block
        return found

    def take(self, cell: Cell, say: Callable[[str], None]) -> Slot | None:
        """A slot for a cell like this one, None while all are taken."""
        ranks = cell.values["GPUS_PER_RUN"]
        if cell.device == "cpu":
            slot = Slot(ranks, inductor=self._inductor)
            if ranks > 1:
                slot.port, slot.descriptors = self._leases.port()
            return slot
        for part in range(self.parts if ranks == 1 else 1):
            for group, gpus in self._chunks(ranks):
                descriptors = self._lease(gpus, part, say)
                if descriptors is not None:
                    return self._slot(ranks, group, gpus, part, descriptors)
        return None

    def choose(self, queue: deque[Cell], slot: Slot) -> Cell:
        """Remove from the queue the cell whose arm ran least on the slot's group.

        Only cells of the seed in front, so that the arms of a pair stay together.
        """
        front = queue[0]
        alike = [
            cell
            for cell in queue
            if cell.seed == front.seed
            and cell.device == front.device
            and cell.values["GPUS_PER_RUN"] == slot.ranks
        ]
        if slot.group is not None:
            front = min(alike, key=lambda cell: self._ran[cell.step, slot.group.name])
        queue.remove(front)
        return front

    def started(self, cell: Cell, slot: Slot) -> None:
        """Remember where the arm ran."""
        if slot.group is not None:
            self._ran[cell.step, slot.group.name] += 1

    def _slot(
        self,
        ranks: int,
        group: Group,
        gpus: tuple[Gpu, ...],
        part: int,
        descriptors: list[int],
    ) -> Slot:
        port, more = self._leases.port()
        bound = group.node is not None and self._bind(group.node)
        names = "+".join(gpu.bus.replace(":", "-") for gpu in gpus)
        cache = self._triton / (f"{names}-{part}" if self.parts > 1 else names)
        caches = cache, self._inductor
        return Slot(
            ranks, group, gpus, part, bound, port, *caches, [*descriptors, *more]
        )

    def _chunks(self, ranks: int) -> list[tuple[Group, tuple[Gpu, ...]]]:
        """Neighbours that a cell of `ranks` GPUs can have, the groups in turn."""
        per_group = [
            [
                (group, group.gpus[first : first + ranks])
                for first in range(0, len(group.gpus) - ranks + 1, ranks)
            ]
            for group in self.groups
        ]
        longest = max(map(len, per_group), default=0)
        return [each[n] for n in range(longest) for each in per_group if n < len(each)]

    def _lease(
        self, gpus: Sequence[Gpu], part: int, say: Callable[[str], None]
    ) -> list[int] | None:
        """Descriptors for all of the GPUs, or None."""
        descriptors: list[int] = []
        for gpu in gpus:
            mine = self._leases.whole(gpu.bus)
            if mine is not None and not self._free(gpu, say):
                host_leases.close([*descriptors, *mine])
                return None
            if self.parts > 1 and len(gpus) == 1:
                host_leases.close(mine or [])
                mine = self._leases.part(gpu.bus, part)
            if mine is None:
                host_leases.close(descriptors)
                return None
            descriptors += mine
        return descriptors

    def _free(self, gpu: Gpu, say: Callable[[str], None]) -> bool:
        """Whether nobody else computes on a GPU that no cell of ours holds.

        Told from the second look on: a process of ours that just ended may still
        be seen by the driver for an instant.
        """
        last = self._busy.get(gpu.bus, 0.0)
        if time.monotonic() - last < CHECK:
            return False
        users = self._users().get(gpu.bus) or ()
        if not users:
            self._busy.pop(gpu.bus, None)
            return True
        if last and gpu.bus not in self._reported:
            self._reported.add(gpu.bus)
            names = ", ".join(process_name(pid) for pid in users)
            say(
                f"GPU {gpu.index} ({gpu.bus}) is left alone: in use by {names} "
                "(CONFIG_SHARE_BUSY_GPUS=y takes it all the same)"
            )
        self._busy[gpu.bus] = time.monotonic()
        return False


@functools.cache
def numactl_works(node: int) -> bool:
    """Whether numactl is there and may bind to the node (containers forbid it)."""
    if shutil.which("numactl") is None:
        return False
    argv = ["numactl", f"--cpunodebind={node}", f"--membind={node}", "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
