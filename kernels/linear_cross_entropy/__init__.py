"""Cross-entropy of a linear head without the logits of the whole batch."""

from kernels.linear_cross_entropy.op import (
    CHUNK_ROWS,
    chunked_losses,
    linear_cross_entropy,
)
from kernels.linear_cross_entropy.reference import plain, plain_losses

__all__ = [
    "CHUNK_ROWS",
    "linear_cross_entropy",
    "chunked_losses",
    "plain",
    "plain_losses",
]
