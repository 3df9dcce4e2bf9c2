"""The device of a run: what it is, what it holds, how torch is set up for it."""

import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import torch

from gpt2.settings.run import ModelSettings, SystemSettings
from records import gpu_masks
from records.codehash import hash_rooms
from records.gpu_readers import driver_version

# Dense bf16 matrix rate in FLOP/s by the vendors' data sheets, for MFU. A name
# that is not listed has no MFU; the first entry contained in the name counts. An MI250
# is two devices to the driver: the rate is of one.
PEAK_BF16 = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "MI300X": 1307e12,
    "MI250": 181e12,
    "W7900": 123e12,
}


@dataclass(frozen=True)
class DeviceInfo:
    """What a run's records say of its device, of one where it has several: memory in
    bytes, the peak in FLOP/s. `driver` is the runtime that torch was built for,
    `kernel_driver` what the kernel runs.
    """

    kind: str
    name: str
    total_memory: int
    driver: str | None
    peak_flops: float | None
    kernel_driver: str | None = None

    def as_dict(self) -> dict:
        """For a record."""
        return asdict(self)


class DeviceError(RuntimeError):
    """The configured device cannot serve; the message says what to do."""


def resolve(kind: str, say: Callable[[str], object] | None = None) -> str:
    """`auto` to "cuda" when torch sees a GPU, else "cpu"; `say` is told of a mask that is
    the cause.

    Raises DeviceError when a GPU is asked for and torch sees none, with the mask that
    hides them, and for a mask that names none.
    """
    available = torch.cuda.is_available()
    try:
        why = "" if available or kind == "cpu" else gpu_masks.why_no_gpu()
    except gpu_masks.MaskError as error:
        raise DeviceError(str(error)) from None
    if kind == "auto":
        if why and say:
            say(f"device: the CPU, as {why}")
        return "cuda" if available else "cpu"
    if kind == "cuda" and not available:
        raise DeviceError(
            f"CONFIG_DEVICE_CUDA=y, but torch {torch.__version__} sees no GPU"
            f"{f' ({why})' if why else ''}: install a CUDA or ROCm build of torch "
            "(README, 'Which torch'), check `make doctor`, or run with DEVICE=cpu"
        )
    return kind


def describe(kind: str) -> DeviceInfo:
    """The device's name, total memory, driver and peak rate."""
    if kind == "cpu":
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return DeviceInfo("cpu", _cpu_name(), pages * size, None, None)
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    runtime = f"HIP {torch.version.hip}" if torch.version.hip else None
    peak = next((f for n, f in PEAK_BF16.items() if n in properties.name), None)
    return DeviceInfo(
        "cuda",
        properties.name,
        properties.total_memory,
        runtime or f"CUDA {torch.version.cuda}",
        peak,
        driver_version(amd=bool(torch.version.hip)),
    )


def _cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def configure(settings: SystemSettings, kind: str, number: int = 0) -> None:
    """The GPU of the process, by number; TF32, cuDNN benchmark mode; what compiled
    graphs are kept under.

    Raises DeviceError when there is no GPU of that number.
    """
    _tag_graphs()
    torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
    if kind == "cuda":
        if number >= torch.cuda.device_count():
            raise DeviceError(
                f"this process is number {number} of this host's, counted from 0, and "
                f"torch sees {torch.cuda.device_count()} GPUs: CONFIG_GPUS_PER_RUN is "
                "at most the number of those"
            )
        torch.cuda.set_device(number)
        torch.backends.cudnn.allow_tf32 = settings.tf32
        torch.backends.cudnn.benchmark = settings.cudnn_benchmark


def _tag_graphs() -> None:
    """torch finds a compiled graph again by the names of its operators, whatever ours
    have come to compute and return: their code is part of the key.
    """
    code, _ = hash_rooms(Path(__file__).parents[2], ("kernels",))
    tag = f"kablate-{code[:16]}"
    if tag not in torch.compiler.config.cache_key_tag:
        torch.compiler.config.cache_key_tag += tag


def synchronize(kind: str) -> None:
    """Wait until the device has done what was asked of it."""
    if kind == "cuda":
        torch.cuda.synchronize()


def memory_used(kind: str) -> int:
    """Bytes held now: allocated on the GPU, resident on the CPU."""
    if kind == "cuda":
        return torch.cuda.memory_allocated()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_memory(kind: str) -> int:
    """Most bytes this process held so far: allocated on its GPU, resident on the CPU."""
    if kind == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def misaligned(settings: ModelSettings) -> list[str]:
    """Matrix dimensions that are not multiples of 64, which GPUs dislike."""
    named = {
        "width": settings.embed,
        "head width": settings.head_width,
        "MLP width": settings.mlp_dim,
        "latent": settings.latent,
    }
    return [f"{name} {n}" for name, n in named.items() if n is not None and n % 64]
