"""What the vendors' libraries add to sysfs: NVIDIA's memory and users, AMD's names.

Both are optional: `nvidia-ml-py` and `amdsmi`. A library that is installed and fails
is said, never an error: sysfs has told what placement needs. One that cannot be
imported, as amdsmi without ROCm, counts as not installed.
"""

import importlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Mapping

from matrix.fleet.topology import Gpu, Topology, numbered, read_sysfs

Find = Callable[[str], ModuleType | None]
"""The module of this name, None when it is not installed."""


@dataclass(frozen=True)
class Seen:
    """What a library says of the GPU at a PCI address."""

    name: str
    memory: int
    uuid: str | None
    users: tuple[int, ...] | None


def read(root: Path = Path("/"), find: Find | None = None) -> Topology:
    """The topology of the machine below `root`, with what the libraries know."""
    find = find or installed
    topology = read_sysfs(root)
    gpus, notes = list(topology.gpus), []
    for vendor, module, ask in (("nvidia", "pynvml", _nvml), ("amd", "amdsmi", _smi)):
        library = find(module)
        if library is None:
            continue
        try:
            seen = ask(library)
        except library_errors(library) as error:
            if any(gpu.vendor == vendor for gpu in gpus):
                notes.append(f"{module} says nothing: {error}")
            continue
        gpus = _merged(gpus, vendor, seen)
    return replace(topology, gpus=tuple(gpus), notes=tuple(notes))


def installed(name: str) -> ModuleType | None:
    """The library, where it is installed together with what it loads."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, KeyError):  # amdsmi without ROCm's library
        return None


def library_errors(library: ModuleType) -> tuple[type[Exception], ...]:
    """What the library's own calls raise."""
    names = ("NVMLError", "AmdSmiException")
    return tuple(getattr(library, name) for name in names if hasattr(library, name))


def _merged(gpus: list[Gpu], vendor: str, seen: Mapping[str, Seen]) -> list[Gpu]:
    """The GPUs with the library's facts; its own list where sysfs shows none.

    NVML counts as CUDA does: what it does not see is not ours to use.
    """
    mine = [gpu for gpu in gpus if gpu.vendor == vendor]
    others = [gpu for gpu in gpus if gpu.vendor != vendor]
    if not mine:
        mine = [Gpu(-1, vendor, bus, "") for bus in sorted(seen)]
    elif vendor == "nvidia":
        mine = [gpu for gpu in mine if gpu.bus in seen]
    told = [_with(gpu, seen[gpu.bus]) if gpu.bus in seen else gpu for gpu in mine]
    return [*others, *numbered(told)]


def _with(gpu: Gpu, seen: Seen) -> Gpu:
    users = gpu.users if seen.users is None else seen.users
    uuid = seen.uuid or gpu.uuid
    return replace(gpu, name=seen.name, memory=seen.memory, uuid=uuid, users=users)


def _nvml(nvml: Any) -> dict[str, Seen]:
    nvml.nvmlInit()
    try:
        found = {}
        for number in range(nvml.nvmlDeviceGetCount()):
            gpu = nvml.nvmlDeviceGetHandleByIndex(number)
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
            found[_address(_str(nvml.nvmlDeviceGetPciInfo(gpu).busId))] = Seen(
                _str(nvml.nvmlDeviceGetName(gpu)),
                nvml.nvmlDeviceGetMemoryInfo(gpu).total,
                _str(nvml.nvmlDeviceGetUUID(gpu)),
                tuple(sorted(process.pid for process in processes)),
            )
        return found
    finally:
        nvml.nvmlShutdown()


def _smi(smi: Any) -> dict[str, Seen]:
    smi.amdsmi_init()
    try:
        found = {}
        for gpu in smi.amdsmi_get_processor_handles():
            vram = smi.AmdSmiMemoryType.VRAM
            found[_address(smi.amdsmi_get_gpu_device_bdf(gpu))] = Seen(
                smi.amdsmi_get_gpu_asic_info(gpu)["market_name"],
                smi.amdsmi_get_gpu_memory_total(gpu, vram),
                None,  # its UUID is not the one that ROCr masks by
                None,  # KFD's list of processes is sysfs
            )
        return found
    finally:
        smi.amdsmi_shut_down()


def _address(bus: str) -> str:
    """00000000:1B:00.0 → 0000:1b:00.0, as sysfs writes it."""
    domain, rest = bus.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
