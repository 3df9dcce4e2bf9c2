"""The step of AdamWSPAM, given its scalars.

`reference` is plain torch and serves the CPU, where without clipping it is
torch's foreach AdamW bit for bit; `kernel` is one Triton launch and serves the
GPU: it reads and writes every number once, as torch's fused AdamW does.
"""

from types import ModuleType

import torch

from kernels.spam import reference


def on(device: torch.device) -> ModuleType:
    """The implementation for tensors of this device: `step`."""
    if device.type == "cpu":
        return reference
    from kernels.spam import kernel

    return kernel


__all__ = ["on", "reference"]
