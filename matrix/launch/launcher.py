"""Where cells are started: the interface, and processes on this machine."""

import functools
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Protocol, Sequence

from matrix import units
from matrix.fleet import host_leases
from matrix.fleet.machine import survey
from matrix.fleet.place import Pool, Slot, numactl_works
from matrix.launch import prepare
from matrix.launch.child import Child, Outcome
from matrix.plan.cells import Cell, Plan
from matrix.plan.device import build
from records import private


class Work(Protocol):
    """A started cell: a process of this machine, or a job."""

    cell: Cell
    began: float
    hung: str
    """Why the watchdog ended it; empty if it did not."""

    @property
    def moving(self) -> bool:
        """Whether its heartbeat should move: it waits in no queue."""

    def outcome(self, stopping: bool) -> Outcome | None:
        """None while it runs."""

    def terminate(self) -> None:
        """Ask for a checkpoint and an end."""

    def kill(self) -> None:
        """End it."""

    def hang(self, why: str) -> None:
        """Its loop stands still: have its stacks written, end it; sets `hung`."""


class Launcher(Protocol):
    """Where cells run."""

    outlives: bool
    """Whether what it started goes on without the runner."""

    def order(self, cells: Sequence[Cell]) -> list[Cell]:
        """The pending cells in the order in which they are started."""

    def adopt(self, cell: Cell) -> Work | None:
        """What an earlier runner started for this cell and still goes on."""

    def take(
        self, queue: deque[Cell], say: Callable[[str], None]
    ) -> tuple[Cell, Slot] | None:
        """Remove a cell from the queue, with a slot for it; None while all are taken."""

    def start(self, cell: Cell, slot: Slot) -> tuple[Work, list[str]]:
        """Start the cell in the slot; what runs, and its command. Raises OSError."""

    def farewell(self, work: Sequence[Work]) -> str:
        """What is said of the work that outlives the runner."""


@dataclass
class Local:
    """Processes on this machine, each in a slot of the pool."""

    plan: Plan
    python: str
    provenance: Mapping[str, Any]
    pool: Pool
    outlives = False

    def order(self, cells: Sequence[Cell]) -> list[Cell]:
        """Arms spread over time."""
        return self.pool.order(cells, self.plan.settings.seed_list)

    def adopt(self, cell: Cell) -> None:
        """Its lease tells of a process that goes on; nothing to follow here."""

    def take(
        self, queue: deque[Cell], say: Callable[[str], None]
    ) -> tuple[Cell, Slot] | None:
        """The next free slot, and the cell that suits it."""
        slot = self.pool.take(queue[0], say)
        return None if slot is None else (self.pool.choose(queue, slot), slot)

    def start(self, cell: Cell, slot: Slot) -> tuple[Work, list[str]]:
        """A child process that holds the slot's leases from here on."""
        prepare.refuse_links(cell.dir)
        argv = slot.command(self.python, prepare.script(self.plan, cell))
        prepare.write(self.plan, cell, argv, self.provenance)
        child = Child(cell, argv, self.plan.root, slot)
        self.pool.started(cell, slot)
        return child, argv

    def farewell(self, work: Sequence[Work]) -> str:
        """Not called: nothing outlives this runner."""
        raise NotImplementedError


def pooled(
    plan: Plan, environment: Mapping[str, str], python: str
) -> tuple[Plan, Pool]:
    """The plan with as many jobs as have room, and the pool of this machine's GPUs.

    Raises MaskError, DeviceError, PlaceError and LeaseDirectoryError.
    """
    launch, leases = plan.settings.launch, host_leases.HostLeases(
        host_leases.directory()
    )

    @functools.cache
    def ask() -> Mapping[str, Any]:
        return build(python)

    gpu_cells = [cell for cell in plan.pending if cell.device != "cpu"]
    if not gpu_cells:
        return plan, Pool((), leases, dict, numactl_works, private.cache_home())
    machine = survey(environment, launch.most_gpus, ask)

    def users() -> dict[str, tuple[int, ...] | None]:
        found = survey(environment, launch.most_gpus, ask)
        return {gpu.bus: gpu.users for gpu in found.gpus}

    pool = Pool(
        machine.groups,
        leases,
        dict if launch.share_busy else users,
        numactl_works,
        private.cache_home(),
        launch.runs_per_gpu,
    )
    room = {n: pool.capacity(n) for n in {c.values["GPUS_PER_RUN"] for c in gpu_cells}}
    notes = [
        f"group {group.name}: GPU {', '.join(str(gpu.index) for gpu in group.gpus)}"
        for group in machine.groups
    ]
    for ranks, count in room.items():
        cells, each = units.plural(count, "cell"), units.plural(ranks, "GPU")
        notes.append(f"{cells} of {each} at a time")
    jobs = plan.settings.jobs or max(room.values())
    return replace(plan, jobs=jobs, notes=(*plan.notes, *notes, *machine.notes)), pool
