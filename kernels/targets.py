"""The GPUs that kernels are compiled for, and which of them a device is."""

from functools import cache

import torch

# What a device without a GPU runs as: Triton's interpreter.
INTERPRETER = "interpreter"
# Shared memory that one program may take, bytes.
SHARED = {
    "cuda:80": 99 * 1024,
    "cuda:90": 227 * 1024,
    "hip:gfx942": 64 * 1024,
    "hip:gfx1100": 64 * 1024,
}
TARGETS = tuple(SHARED)
# Those with tiles for the recurrence: on gfx1100 every one of `decays` spills. Here, so
# that what asks for them does not make the recurrence part of every run's code.
RECURRENT = ("cuda:80", "cuda:90", "hip:gfx942")


def target_of(device: torch.device) -> str:
    """The target that a device is, one of TARGETS where kernels were made for it."""
    if device.type == "cpu":
        return INTERPRETER
    index = torch.cuda.current_device() if device.index is None else device.index
    return _target(index)


@cache
def _target(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        return f"hip:{properties.gcnArchName.partition(':')[0]}"
    return "cuda:90" if properties.major == 9 else f"cuda:{properties.major}0"
