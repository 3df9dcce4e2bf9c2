"""The GPUs that cells may use on this machine, in groups; `make gpus`.

Of what the machine has (topology.py, vendors.py) this keeps the vendor that torch
was built for, what the outer mask leaves, and no integrated GPU.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

from matrix import units
from matrix.fleet import visible_devices
from matrix.fleet.topology import Gpu, Group, Topology, discrete, groups, process_name
from matrix.fleet.vendors import read
from matrix.plan import device

Build = Callable[[], Mapping[str, Any]]
"""What torch says of itself: device.build."""


@dataclass(frozen=True)
class Machine:
    """The groups, what a person should know, and the topology they come from."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    topology: Topology

    @property
    def gpus(self) -> list[Gpu]:
        """Every GPU of the groups."""
        return [gpu for group in self.groups for gpu in group.gpus]


def survey(
    environment: Mapping[str, str],
    most: int,
    build: Build,
    root: Path = Path("/"),
) -> Machine:
    """The machine below `root` under the masks of `environment`.

    `most` GPUs at most form a group. torch is asked only where both vendors have
    GPUs, and in a sandbox: where neither sysfs nor a library shows a GPU, or nothing
    tells which of NVIDIA's belong to it. Where torch counts others, the GPUs are
    those that it counts, and nothing is bound to a node. Raises MaskError and
    DeviceError.
    """
    topology = read(root)
    gpus, notes = list(topology.gpus), list(topology.notes)
    if len({gpu.vendor for gpu in gpus}) > 1:
        vendor = build()["vendor"]
        notes.append(
            f"torch is built for {vendor}: the other vendor's GPUs are not used"
        )
        gpus = [gpu for gpu in gpus if gpu.vendor == vendor]
    gpus = visible_devices.allowed(gpus, environment)
    if not gpus or gpus[0].vendor == "nvidia" and any(g.uuid is None for g in gpus):
        seen = (
            []
            if topology.gpus and not gpus
            else _counted_by_torch(build(), environment)
        )
        if len(seen) != len(gpus):
            notes.append(
                f"sysfs shows {len(gpus)} GPUs, torch {len(seen)}: torch counts"
            )
            gpus = seen
    gpus, left_out = discrete(gpus)
    if any(gpu.users is None for gpu in gpus):
        needed = "nvidia-ml-py" if gpus[0].vendor == "nvidia" else "/sys/class/kfd"
        notes.append(f"other processes on the GPUs are not seen without {needed}")
    if len(topology.nodes) > 1 and any(gpu.node is None for gpu in gpus):
        notes.append("the NUMA node of the GPUs is unknown: cells are not bound to one")
    found = groups(topology, gpus, most)
    return Machine(tuple(found), tuple([*notes, *left_out]), topology)


def page(machine: Machine, environment: Mapping[str, str]) -> str:
    """What `make gpus` prints."""
    lines = []
    for group in machine.groups:
        node = "no NUMA node known" if group.node is None else f"NUMA node {group.node}"
        cpus = f", CPUs {ranges(group.cpus)}" if group.cpus else ""
        lines.append(f"group {group.name}  {node}{cpus}")
        for gpu in group.gpus:
            memory = (
                "memory unknown" if gpu.memory is None else units.memory(gpu.memory)
            )
            users = [process_name(pid) for pid in gpu.users or ()]
            used = f"  in use by {', '.join(users)}" if users else ""
            name = gpu.name or gpu.vendor
            lines.append(f"  GPU {gpu.index}  {gpu.bus}  {name}, {memory}{used}")
    if not machine.groups:
        lines.append("no GPU: cells run on the CPU")
    hidden = len(machine.topology.gpus) - len(machine.gpus)
    for name in (visible_devices.ROCR, visible_devices.HIP, visible_devices.CUDA):
        if name in environment and machine.topology.gpus:
            lines.append(f"{name}={environment[name]} ({hidden} hidden)")
    return "\n".join([*lines, *machine.notes])


def ranges(numbers: frozenset[int]) -> str:
    """{0, 1, 2, 8} → "0-2,8"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in parts)


def _counted_by_torch(
    build: Mapping[str, Any], environment: Mapping[str, str]
) -> list[Gpu]:
    """torch's own list, which an outer mask has cut already."""
    vendor = build["vendor"]
    mask = environment.get(visible_devices.CUDA)
    if vendor == "amd":
        mask = environment.get(visible_devices.HIP, mask)
    outer = mask.split(",") if mask else None
    return [
        Gpu(
            n,
            vendor,
            f"torch-{outer[n].strip() if outer else n}",
            outer[n].strip() if outer else str(n),
            gpu["name"],
            gpu["memory"],
        )
        for n, gpu in enumerate(build["gpus"])
    ]


def main(root: Path, python: str) -> int:
    """Print the groups of this machine; 1 for a mask that cannot be followed."""
    from kconf.dotconfig import config_paths, read_python
    from kconf.strict import Tree
    from matrix.settings import study_settings

    tree, paths = Tree(root), config_paths(root, os.environ)
    there = paths[0].exists()
    values = read_python(tree, *paths) if there else tree.resolve([]).values
    most = study_settings(values).launch.most_gpus
    try:
        machine = survey(os.environ, most, lambda: device.build(python))
    except (visible_devices.MaskError, device.DeviceError) as error:
        print(f"error: {error}")
        return 1
    print(page(machine, os.environ))
    return 0
