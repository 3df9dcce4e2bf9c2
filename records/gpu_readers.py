"""What the drivers say of GPUs: one reader per means, GPUs named by PCI address.

The vendors' libraries are optional; one that is not installed is an ImportError.

A reading is {quantity: value} of one GPU, with only what the driver gives:
compute_util and memory_util (% of the last interval, the latter of the memory's
bandwidth), memory_used_gb and memory_total_gb (2**30 bytes), power_w (watts),
temperature_c (Celsius), clock_mhz (of the cores) and processes (that compute on it;
NVML alone).
"""

import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

GIB = 2**30
SYSFS = Path("/sys/bus/pci/devices")
MODULES = Path("/sys/module")
NVRM = Path("/proc/driver/nvidia/version")
NVRM_VERSION = re.compile(r"\b[0-9]+\.[0-9]+(\.[0-9]+)*\b")
SMI_SECONDS = 10

Reading = dict[str, float]


class ReadError(RuntimeError):
    """The GPUs could not be read."""


@dataclass(frozen=True)
class Card:
    """What a library says a GPU is: `memory` in bytes, `users` the processes on it.

    None where it does not tell, or tells something else than what names the GPU.
    """

    name: str
    memory: int
    uuid: str | None
    users: tuple[int, ...] | None


class Reader(Protocol):
    """Reads GPUs; `source` says by what means."""

    source: str

    def read(self) -> list[Reading]:
        """A reading of every GPU, in order. Raises ReadError."""


class Sysfs:
    """AMD: the files of the amdgpu driver below the device's PCI directory.

    They hold every quantity, and need neither ROCm nor a library, which amdsmi
    does: it reads the same driver.
    """

    source = "sysfs"

    # quantity -> file (the first that matches), and what one unit of it is
    FILES = {
        "compute_util": ("gpu_busy_percent", 1.0),
        "memory_util": ("mem_busy_percent", 1.0),
        "memory_used_gb": ("mem_info_vram_used", 1 / GIB),
        "memory_total_gb": ("mem_info_vram_total", 1 / GIB),
        "power_w": ("hwmon/hwmon*/power1_average", 1e-6),
        "temperature_c": ("hwmon/hwmon*/temp1_input", 1e-3),
        "clock_mhz": ("hwmon/hwmon*/freq1_input", 1e-6),
    }
    ELSE = {
        "power_w": "hwmon/hwmon*/power1_input",
        "temperature_c": "hwmon/hwmon*/temp2_input",
    }
    """Where newer GPUs have it: the power of now for the average, the junction's
    temperature for the edge's."""

    def __init__(self, names: Sequence[str], root: Path = SYSFS):
        self._gpus = [self._files(root / name) for name in names]

    def _files(self, device: Path) -> dict[str, tuple[Path, float]]:
        if not (device / "gpu_busy_percent").exists():
            raise ReadError(f"{device} has no gpu_busy_percent: no amdgpu driver?")
        found = {}
        for quantity, (pattern, unit) in self.FILES.items():
            files = sorted(device.glob(pattern))
            if quantity in self.ELSE:
                files += sorted(device.glob(self.ELSE[quantity]))
            if files:
                found[quantity] = files[0], unit
        return found

    def read(self) -> list[Reading]:
        """A reading of every GPU; a file that refuses is left out."""
        return [self._read(files) for files in self._gpus]

    def _read(self, files: dict[str, tuple[Path, float]]) -> Reading:
        reading = {}
        for quantity, (path, unit) in files.items():
            try:
                reading[quantity] = int(path.read_text(encoding="ascii")) * unit
            except OSError:  # the sensor is asleep or not supported
                continue
            except ValueError as error:
                raise ReadError(f"{path}: {error}") from error
        if not reading:
            raise ReadError(f"{next(iter(files.values()))[0].parent} answers nothing")
        return reading


class Nvml:
    """NVIDIA: the driver's management library, through nvidia-ml-py."""

    source = "NVML"

    def __init__(self, names: Sequence[str] = ()):
        """Raises ImportError without nvidia-ml-py, ReadError without a driver."""
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._gpus = [
                pynvml.nvmlDeviceGetHandleByPciBusId(name.encode()) for name in names
            ]
        except pynvml.NVMLError as error:
            raise ReadError(f"NVML: {error}") from error

    def close(self) -> None:
        """Let the driver go."""
        self._nvml.nvmlShutdown()

    def cards(self) -> dict[str, Card]:
        """Every GPU of the driver by its address. Raises ReadError."""
        nvml = self._nvml
        try:
            count = nvml.nvmlDeviceGetCount()
            return dict(
                map(self._card, map(nvml.nvmlDeviceGetHandleByIndex, range(count)))
            )
        except nvml.NVMLError as error:
            raise ReadError(f"NVML: {error}") from error

    def _card(self, gpu: Any) -> tuple[str, Card]:
        nvml = self._nvml
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        card = Card(
            _str(nvml.nvmlDeviceGetName(gpu)),
            nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            _str(nvml.nvmlDeviceGetUUID(gpu)),
            tuple(sorted(process.pid for process in processes)),
        )
        return address(_str(nvml.nvmlDeviceGetPciInfo(gpu).busId)), card

    def read(self) -> list[Reading]:
        """A reading of every GPU."""
        readings = [self._read(gpu) for gpu in self._gpus]
        if not all(readings):
            raise ReadError("NVML answers nothing")
        return readings

    def _read(self, gpu: Any) -> Reading:
        nvml = self._nvml
        reading: Reading = {}

        def ask(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return function(gpu, *arguments)
            except nvml.NVMLError:  # not supported on this GPU
                return None

        if rates := ask(nvml.nvmlDeviceGetUtilizationRates):
            reading["compute_util"] = float(rates.gpu)
            reading["memory_util"] = float(rates.memory)
        if memory := ask(nvml.nvmlDeviceGetMemoryInfo):
            reading["memory_used_gb"] = memory.used / GIB
            reading["memory_total_gb"] = memory.total / GIB
        single = {
            "power_w": ask(nvml.nvmlDeviceGetPowerUsage),
            "temperature_c": ask(
                nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU
            ),
            "clock_mhz": ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        }
        running = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
        if running is not None:
            reading["processes"] = float(len(running))
        for quantity, value in single.items():
            if value is not None:
                unit = 1e-3 if quantity == "power_w" else 1.0
                reading[quantity] = value * unit
        return reading


class AmdSmi:
    """AMD: the library beside ROCm, which knows the names of its boards."""

    def __init__(self) -> None:
        """Raises ImportError without amdsmi or ROCm, ReadError without a driver."""
        try:
            import amdsmi
        except (OSError, KeyError) as error:  # installed, but not what it loads
            raise ImportError(f"amdsmi: {error}") from error
        self._smi = amdsmi
        try:
            amdsmi.amdsmi_init()
        except amdsmi.AmdSmiException as error:
            raise ReadError(f"amdsmi: {error}") from error

    def close(self) -> None:
        """Let the driver go."""
        self._smi.amdsmi_shut_down()

    def cards(self) -> dict[str, Card]:
        """Every GPU of the driver by its address. Raises ReadError."""
        try:
            return dict(map(self._card, self._smi.amdsmi_get_processor_handles()))
        except self._smi.AmdSmiException as error:
            raise ReadError(f"amdsmi: {error}") from error

    def _card(self, gpu: Any) -> tuple[str, Card]:
        smi = self._smi
        card = Card(
            smi.amdsmi_get_gpu_asic_info(gpu)["market_name"],
            smi.amdsmi_get_gpu_memory_total(gpu, smi.AmdSmiMemoryType.VRAM),
            None,  # its UUID is not the one that ROCr masks by
            None,  # KFD's list of processes is sysfs
        )
        return address(smi.amdsmi_get_gpu_device_bdf(gpu)), card


@dataclass
class Smi:
    """NVIDIA without nvidia-ml-py: the nvidia-smi program, once per sample."""

    names: Sequence[str]
    program: str = "nvidia-smi"
    source = "nvidia-smi"

    QUERY = {
        "compute_util": ("utilization.gpu", 1.0),
        "memory_util": ("utilization.memory", 1.0),
        "memory_used_gb": ("memory.used", 2**20 / GIB),
        "memory_total_gb": ("memory.total", 2**20 / GIB),
        "power_w": ("power.draw", 1.0),
        "temperature_c": ("temperature.gpu", 1.0),
        "clock_mhz": ("clocks.sm", 1.0),
    }

    def read(self) -> list[Reading]:
        """A reading of every GPU; what is [N/A] is left out."""
        fields = ",".join(["pci.bus_id", *(field for field, _ in self.QUERY.values())])
        argv = [self.program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        argv += ["--id=" + ",".join(self.names)]
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                encoding="utf-8",
                timeout=SMI_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ReadError(f"nvidia-smi: {error}") from error
        found = dict(map(self._parse, done.stdout.splitlines()))
        if set(found) != set(self.names):
            raise ReadError(f"nvidia-smi answers for {sorted(found)}")
        return [found[name] for name in self.names]

    def _parse(self, line: str) -> tuple[str, Reading]:
        bus, *texts = line.split(", ")
        reading = {}
        for (quantity, (_, unit)), text in zip(self.QUERY.items(), texts):
            try:
                reading[quantity] = float(text) * unit
            except ValueError:  # [N/A]
                continue
        return address(bus), reading


def driver_version(amd: bool, modules: Path = MODULES, nvrm: Path = NVRM) -> str | None:
    """The version of the kernel's GPU driver: what computes, whatever runtime asks it.

    Of NVIDIA 580.95.05; of AMD its own, or the kernel's whose part it is. None where
    the kernel shows neither, as in some sandboxes.
    """
    module = modules / ("amdgpu" if amd else "nvidia")
    if (module / "version").is_file():
        return (module / "version").read_text(encoding="utf-8").strip()
    if amd:
        return f"Linux {platform.release()}" if module.is_dir() else None
    if not nvrm.is_file():
        return None
    found = NVRM_VERSION.search(nvrm.read_text(encoding="utf-8"))
    return found[0] if found else None


def address(bus: str) -> str:
    """00000000:1B:00.0 → 0000:1b:00.0, as sysfs writes it."""
    domain, rest = bus.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
