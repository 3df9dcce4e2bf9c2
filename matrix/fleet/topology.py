"""The GPUs of this machine and where they sit: vendor, memory, NUMA node, CPUs.

sysfs is enough: PCI devices under /sys/bus/pci/devices, the order that ROCm counts
in under /sys/class/kfd, NUMA nodes under /sys/devices/system/node; NVIDIA's names
and UUIDs under /proc/driver/nvidia. The vendors' libraries add what only they know
(matrix/fleet/vendors.py). Nothing here imports torch or touches a GPU.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

DRIVERS = {"amdgpu": "amd", "nvidia": "nvidia"}
CLASSES = ("0x03", "0x12")
"""PCI classes of displays and of processing accelerators."""
INTEGRATED = 4
"""A GPU with less than 1/INTEGRATED of the largest one's memory is left out."""


@dataclass(frozen=True)
class Gpu:
    """One GPU. `memory` in bytes; None where nothing tells.

    `index` counts as the vendor's runtime does (CUDA in PCI order, HIP in KFD's
    order); `visible` is what names it in a mask: its UUID on NVIDIA where that is
    known, else the index; `node` is its NUMA node; `users` are the processes that
    compute on it, None where nothing tells.
    """

    index: int
    vendor: str
    bus: str
    visible: str
    name: str | None = None
    memory: int | None = None
    node: int | None = None
    uuid: str | None = None
    users: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Topology:
    """GPUs by vendor and index; {NUMA node: its CPUs}; what a person should know."""

    gpus: tuple[Gpu, ...]
    nodes: dict[int, frozenset[int]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """GPUs of one vendor below one NUMA node (None: unknown)."""

    name: str
    node: int | None
    cpus: frozenset[int]
    gpus: tuple[Gpu, ...]


def read_sysfs(root: Path = Path("/")) -> Topology:
    """What sysfs and procfs below `root` say."""
    devices = root / "sys/bus/pci/devices"
    found: dict[str, list[Gpu]] = {"amd": [], "nvidia": []}
    for path in sorted(devices.iterdir()) if devices.is_dir() else []:
        vendor = DRIVERS.get((path / "driver").resolve().name)
        if vendor and (_text(path / "class") or "").startswith(CLASSES):
            node = int(_text(path / "numa_node") or -1)
            bus = path.name.lower()
            gpu = Gpu(-1, vendor, bus, "", node=node if node >= 0 else None)
            found[vendor].append(gpu)
    amd = [_amd(gpu, devices / gpu.bus) for gpu in found["amd"]]
    nvidia = [_nvidia(gpu, root) for gpu in found["nvidia"]]
    gpus = [*numbered(_as_kfd_counts(amd, root)), *numbered(_handed_in(nvidia, root))]
    return Topology(tuple(gpus), _nodes(root))


def numbered(gpus: Sequence[Gpu]) -> list[Gpu]:
    """The same with `index` and `visible` by position; NVIDIA's UUID where known."""
    return [
        replace(
            gpu,
            index=n,
            visible=(gpu.uuid if gpu.vendor == "nvidia" else None) or str(n),
        )
        for n, gpu in enumerate(gpus)
    ]


def groups(topology: Topology, gpus: Sequence[Gpu], most: int) -> list[Group]:
    """A, B, …: up to `most` neighbours below one NUMA node.

    GPUs without a node stand together: nothing says that they are apart.
    """
    found: list[Group] = []
    places = dict.fromkeys((gpu.vendor, gpu.node) for gpu in gpus)
    for vendor, node in sorted(places, key=lambda p: (p[0], p[1] is None, p[1] or 0)):
        alike = [gpu for gpu in gpus if (gpu.vendor, gpu.node) == (vendor, node)]
        cpus = topology.nodes.get(node, frozenset()) if node is not None else ()
        for first in range(0, len(alike), most):
            name = group_name(len(found))
            chosen = tuple(alike[first : first + most])
            found.append(Group(name, node, frozenset(cpus), chosen))
    return found


def group_name(number: int) -> str:
    """0 → A, 25 → Z, 26 → AA."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters


def discrete(gpus: Sequence[Gpu]) -> tuple[list[Gpu], list[str]]:
    """The GPUs without the integrated ones, and a note for each that is left out."""
    largest = max((gpu.memory or 0 for gpu in gpus), default=0)
    kept, notes = [], []
    for gpu in gpus:
        if gpu.memory is not None and gpu.memory * INTEGRATED < largest:
            why = f"{gpu.memory / 2**30:.1f} GiB beside {largest / 2**30:.0f} GiB"
            notes.append(f"GPU {gpu.index} ({gpu.bus}) is left out: {why}")
        else:
            kept.append(gpu)
    return kept, notes


def kfd_users(root: Path, gpu_id: str) -> tuple[int, ...]:
    """The processes that hold memory of the AMD GPU with this KFD id."""
    found = []
    for path in sorted((root / "sys/class/kfd/kfd/proc").glob(f"*/vram_{gpu_id}")):
        if int(_text(path) or 0) > 0:
            found.append(int(path.parent.name))
    return tuple(found)


def cpu_list(text: str) -> frozenset[int]:
    """ "0-3,8" → {0, 1, 2, 3, 8}."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _nodes(root: Path) -> dict[int, frozenset[int]]:
    paths = (root / "sys/devices/system/node").glob("node[0-9]*")
    found = {int(p.name[4:]): cpu_list(_text(p / "cpulist") or "") for p in paths}
    return dict(sorted(found.items()))


def _amd(gpu: Gpu, path: Path) -> Gpu:
    memory, unique = _text(path / "mem_info_vram_total"), _text(path / "unique_id")
    return replace(
        gpu,
        name=_text(path / "product_name") or f"AMD {_text(path / 'device')}",
        memory=int(memory) if memory else None,
        uuid=f"GPU-{unique}" if unique else None,
    )


def _as_kfd_counts(gpus: list[Gpu], root: Path) -> list[Gpu]:
    """The GPUs that KFD lets this process use, in its order, with their users.

    Where there is no KFD, in PCI order.
    """
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    if not nodes.is_dir():
        return gpus
    by_bus = {gpu.bus: gpu for gpu in gpus}
    found = []
    for bus, gpu_id in _kfd_gpus(nodes):
        if bus in by_bus:
            found.append(replace(by_bus[bus], users=kfd_users(root, gpu_id)))
    return found


def _kfd_gpus(nodes: Path) -> Iterator[tuple[str, str]]:
    """(PCI address, KFD's id) of each node that is a GPU."""
    for path in sorted(nodes.iterdir(), key=lambda path: int(path.name)):
        gpu_id, properties = _text(path / "gpu_id"), _text(path / "properties")
        if not properties or gpu_id in (None, "0"):  # a CPU, or not ours to use
            continue
        pairs = (line.split() for line in properties.splitlines())
        facts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
        at = facts["location_id"]
        domain = facts.get("domain", 0)
        bus = f"{domain:04x}:{at >> 8 & 255:02x}:{at >> 3 & 31:02x}.{at & 7}"
        yield bus, gpu_id


def _nvidia(gpu: Gpu, root: Path) -> Gpu:
    facts = _text(root / "proc/driver/nvidia/gpus" / gpu.bus / "information") or ""
    model = re.search(r"^Model:\s*(.+?)\s*$", facts, re.M)
    uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-fA-F-]+)\s*$", facts, re.M)
    name = model[1] if model else None
    return replace(gpu, name=name, uuid=uuid[1] if uuid else None)


def _handed_in(gpus: list[Gpu], root: Path) -> list[Gpu]:
    """A container sees every PCI device, but only its own GPUs in the driver's list."""
    known = root / "proc/driver/nvidia/gpus"
    if not known.is_dir():
        return gpus
    return [gpu for gpu in gpus if (known / gpu.bus).is_dir()]


def _text(path: Path) -> str | None:
    """The stripped contents; None where there is no such file or it is not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # sysfs answers a forbidden read with many numbers
        return None


def process_name(pid: int, root: Path = Path("/")) -> str:
    """ "PID (command, uid N)", for telling a person whose it is."""
    path = root / "proc" / str(pid)
    command = _text(path / "comm")
    if command is None:
        return str(pid)
    owner = path.stat().st_uid
    mine = ", yours" if owner == os.getuid() else f", uid {owner}"
    return f"{pid} ({command}{mine})"
