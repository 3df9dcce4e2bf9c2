"""The step of AdamW and AdamWSPAM, given its scalars, and the norm before it.

`reference` is plain torch and serves the CPU, where it is torch's foreach AdamW
bit for bit; `kernel` is Triton and serves the GPU: one launch for all tensors of
a list, which reads and writes every number once. Masks, the clipping factor and
bf16 copies ride along, so that none of them is a pass of its own.
"""

from types import ModuleType

import torch

from kernels.adamw import reference


def on(device: torch.device) -> ModuleType:
    """The implementation for tensors of this device: `step` and `square_sum`."""
    if device.type == "cpu":
        return reference
    from kernels.adamw import kernel

    return kernel


__all__ = ["on", "reference"]
