"""Which weights to prune, exactly, and zeros where they were.

Two implementations with one interface, equal bit for bit: `reference` is plain
torch and serves the CPU; `kernel` is Triton and serves the GPU, all matrices in
one launch.
"""

from types import ModuleType

import torch

from kernels.pruning import reference


def on(device: torch.device) -> ModuleType:
    """The implementation for tensors of this device: `prune_lowest` and `zero`."""
    if device.type == "cpu":
        return reference
    from kernels.pruning import kernel

    return kernel


__all__ = ["on", "reference"]
