"""The GPUs that an outer mask leaves, and the mask that a cell gets.

CUDA reads CUDA_VISIBLE_DEVICES. ROCm reads ROCR_VISIBLE_DEVICES first, and then
HIP_VISIBLE_DEVICES (or CUDA_VISIBLE_DEVICES), whose numbers count what ROCr left.
A mask names GPUs by number or by UUID, which may be abbreviated; an empty one
hides them all.
"""

from dataclasses import replace
from typing import Mapping, Sequence

from matrix.fleet.topology import Gpu
from records import gpu_masks
from records.gpu_masks import CUDA, HIP, ROCR, MaskError

ORDER = "CUDA_DEVICE_ORDER"


def allowed(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs of one vendor that the environment's masks leave, in mask order.

    `visible` of an AMD GPU becomes its number below ROCR_VISIBLE_DEVICES, which
    the cell inherits. Raises MaskError.
    """
    gpu_masks.require(environment)
    kept = list(gpus)
    if not kept:
        return []
    if kept[0].vendor == "nvidia":
        _require_order(kept, environment)
        return _masked(kept, CUDA, environment)
    kept = _masked(kept, ROCR, environment)
    kept = [replace(gpu, visible=str(n)) for n, gpu in enumerate(kept)]
    return _masked(kept, HIP if HIP in environment else CUDA, environment)


def mask(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` in which a process sees these GPUs and no others."""
    found = {k: v for k, v in environment.items() if k not in (HIP, CUDA)}
    chosen = ",".join(gpu.visible for gpu in gpus)
    if gpus[0].vendor == "nvidia":
        return {**found, ORDER: "PCI_BUS_ID", CUDA: chosen}
    return {**found, HIP: chosen}


def _masked(gpus: list[Gpu], name: str, environment: Mapping[str, str]) -> list[Gpu]:
    if name not in environment:
        return gpus
    found: list[Gpu] = []
    for item in environment[name].split(","):
        gpu = _named(item.strip(), gpus, f"{name}={environment[name]}")
        if gpu is None:  # as the runtimes do: what follows is hidden too
            break
        found.append(gpu)
    if len(set(found)) < len(found):
        raise MaskError(f"{name}={environment[name]} names a GPU twice")
    return found


def _named(item: str, gpus: list[Gpu], whole: str) -> Gpu | None:
    """The GPU that one item of a mask names; None for one that does not exist."""
    if gpu_masks.NONE.fullmatch(item):
        return None
    if item.isdigit():
        return gpus[int(item)] if int(item) < len(gpus) else None
    if item.startswith("MIG-"):
        raise MaskError(
            f"{whole}: MIG slices are not placed: mask whole GPUs, or let Slurm hand "
            "out the slices (CONFIG_LAUNCHER_SLURM)"
        )
    if any(gpu.uuid is None for gpu in gpus):
        raise MaskError(
            f"{whole}: nothing here tells the UUIDs of the GPUs: mask by number, or "
            "install nvidia-ml-py"
        )
    fits = [gpu for gpu in gpus if gpu.uuid.lower().startswith(item.lower())]
    if len(fits) > 1:
        raise MaskError(f"{whole}: {item} fits {len(fits)} GPUs: write more of it")
    return fits[0] if fits else None


def _require_order(gpus: list[Gpu], environment: Mapping[str, str]) -> None:
    """Numbers mean the same to CUDA and to us, or MaskError."""
    numbers = [i.strip() for i in environment.get(CUDA, "").split(",") if i.strip()]
    different = len({gpu.name for gpu in gpus}) > 1
    in_order = environment.get(ORDER) == "PCI_BUS_ID"
    if different and not in_order and any(item.isdigit() for item in numbers):
        raise MaskError(
            f"{CUDA}={environment[CUDA]}: CUDA counts different GPUs by speed unless "
            f"{ORDER}=PCI_BUS_ID is set: set it, or mask by UUID"
        )
