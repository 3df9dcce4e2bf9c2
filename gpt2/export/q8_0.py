"""llama.cpp's type Q8_0: blocks of 32 values of a row, each a scale in fp16 and 32
integers of 8 bits, w = scale · q.

The scale is max |w| / 127 in fp16, and SMALLEST at least; q = w / scale, rounded, of that
very scale. So no value is further from its own than half a scale, and values that come
out of blocks go into the same blocks again.

Legend: R rows, C columns, N blocks of a row, with 32 values each.
"""

import numpy as np
import torch

BLOCK, MOST = 32, 127
BYTES = 2 + BLOCK
"""Of a block."""
SMALLEST = 2.0**-16
"""From here on fp16 errs by less than 1/254: a block's largest q is 127, also again."""


class BlockError(ValueError):
    """A matrix that has no blocks; it says why."""


def rounded(weight_RC: torch.Tensor) -> torch.Tensor:
    """The values that the blocks hold, in fp32. Raises BlockError."""
    scale_RN1, q_RN32 = _blocks(weight_RC)
    return (scale_RN1 * q_RN32).flatten(1)


def stored(weight_RC: torch.Tensor) -> np.ndarray:
    """The bytes of every row, uint8 (R, 34 N): per block scale, then integers.

    Raises BlockError.
    """
    scale_RN1, q_RN32 = _blocks(weight_RC)
    scale = scale_RN1.half().numpy().astype("<f2").view(np.uint8)
    integers = q_RN32.to(torch.int8).numpy().view(np.uint8)
    return np.concatenate([scale, integers], axis=2).reshape(len(weight_RC), -1)


def restored(blocks_K: torch.Tensor) -> torch.Tensor:
    """The values of blocks, fp32 (K, 32), from their bytes, uint8 (K, 34)."""
    scale_K1 = blocks_K[:, :2].contiguous().view(torch.float16).float()
    return scale_K1 * blocks_K[:, 2:].view(torch.int8).float()


def _blocks(weight_RC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale_RN1, q_RN32), in fp32 both."""
    if weight_RC.shape[1] % BLOCK:
        raise BlockError(
            f"rows of {weight_RC.shape[1]} values are no whole blocks of {BLOCK}"
        )
    w_RN32 = weight_RC.float().unflatten(1, (-1, BLOCK))
    scale_RN1 = (w_RN32.abs().amax(dim=2, keepdim=True) / MOST).half().float()
    scale_RN1 = scale_RN1.clamp(min=SMALLEST)
    if not scale_RN1.isfinite().all():
        raise BlockError(f"a value of {w_RN32.abs().max():.3g} is more than it holds")
    return scale_RN1, (w_RN32 / scale_RN1).round() + 0.0  # integers have no -0
