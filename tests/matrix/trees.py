"""Machines as sysfs and procfs show them, built below a directory."""

from dataclasses import dataclass
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU of a fake machine; `node` is what numa_node says."""

    bus: str
    driver: str
    node: int
    memory: int = 0
    name: str = ""
    uuid: str = ""
    kind: str = "0x030000"


def build(root: Path, cards: list[Card], nodes: dict[int, str]) -> Path:
    """Write the tree; `nodes` are CPU lists by NUMA node."""
    for number, cpus in nodes.items():
        _write(root / f"sys/devices/system/node/node{number}/cpulist", cpus)
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True, exist_ok=True)
    for card in cards:
        device = devices / card.bus
        driver = root / "sys/bus/pci/drivers" / card.driver
        driver.mkdir(parents=True, exist_ok=True)
        _write(device / "class", card.kind)
        _write(device / "numa_node", str(card.node))
        (device / "driver").symlink_to(driver)
        if card.driver == "amdgpu":
            _write(device / "device", "0x740c")
            _write(device / "mem_info_vram_total", str(card.memory))
            _write(device / "product_name", card.name)
            _write(device / "unique_id", card.uuid)
        elif card.driver == "nvidia":
            text = f"Model: \t\t {card.name}\nIRQ:   \t\t 7\nGPU UUID: \t {card.uuid}\n"
            _write(root / "proc/driver/nvidia/gpus" / card.bus / "information", text)
    return root


def kfd(root: Path, buses: list[str]) -> None:
    """KFD's nodes: a CPU, then the GPUs in this order; ids 100, 101, …"""
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    _write(nodes / "0/gpu_id", "0")
    _write(nodes / "0/properties", "cpu_cores_count 64\nsimd_count 0\n")
    for number, bus in enumerate(buses, start=1):
        domain, at, rest = bus.split(":")
        slot, function = rest.split(".")
        location = int(at, 16) << 8 | int(slot, 16) << 3 | int(function)
        facts = f"simd_count 440\nlocation_id {location}\ndomain {int(domain, 16)}\n"
        _write(nodes / f"{number}/gpu_id", str(99 + number))
        _write(nodes / f"{number}/properties", facts)


def amd_user(root: Path, pid: int, gpu_id: int, held: int = GIB) -> None:
    """A process that holds memory of a GPU."""
    _write(root / f"sys/class/kfd/kfd/proc/{pid}/vram_{gpu_id}", str(held))


def amd8(root: Path) -> Path:
    """Eight MI250 below two NUMA nodes, a BMC's display beside them."""
    buses = [f"0000:{at}:00.0" for at in "11 2f 46 5d 8b aa c2 da".split()]
    cards = [
        Card(bus, "amdgpu", n // 4, 64 * GIB, "MI250", f"{n:016x}", "0x120000")
        for n, bus in enumerate(buses)
    ]
    bmc = Card("0000:03:00.0", "ast", 0)
    build(root, [bmc, *cards], {0: "0-31,64-95", 1: "32-63,96-127"})
    kfd(root, buses)
    return root


def w7900(root: Path) -> Path:
    """A workstation: one W7900 on one node."""
    bus = "0000:03:00.0"
    build(root, [Card(bus, "amdgpu", 0, 48 * GIB, "W7900", "5a")], {0: "0-31"})
    kfd(root, [bus])
    return root


def a10g4(root: Path) -> Path:
    """Four A10G of one node, as in a cloud's machine."""
    cards = [
        Card(
            f"0000:00:{slot}.0", "nvidia", 0, name="NVIDIA A10G", uuid=f"GPU-{slot}-ab"
        )
        for slot in ("1b", "1c", "1d", "1e")
    ]
    return build(root, cards, {0: "0-47"})


def no_numa(root: Path) -> Path:
    """Two GPUs of which nothing says where they sit, and two nodes."""
    cards = [
        Card(f"0000:0{n}:00.0", "nvidia", -1, name="NVIDIA L4", uuid=f"GPU-{n}")
        for n in (4, 5)
    ]
    return build(root, cards, {0: "0-7", 1: "8-15"})


def cpu_only(root: Path) -> Path:
    """No GPU."""
    return build(root, [], {0: "0-3"})


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
