"""One row of logits to its loss and, in place, to its gradient.

Legend: n rows of a chunk, V vocabulary rows.
"""

import torch
import triton
import triton.language as tl

from kernels.launching import launch
from kernels.targets import target_of

# The fastest of 4096 to 16384 x 8 to 32 warps on an H200 at V = 50,304.
BLOCK = 8192
WARPS = 8
# On Ampere in 16 bits, where eight spill.
AMPERE_WARPS = 16


@triton.jit
def _row(
    logits_ptr, target_ptr, loss_ptr, stride, V, scale, BLOCK: tl.constexpr,
    GRADIENT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride
    target = tl.load(target_ptr + row)
    own = tl.load(logits_ptr + target).to(tl.float32)
    offsets = tl.arange(0, BLOCK)
    top, total = -float("inf"), 0.0
    for start in range(0, V, BLOCK):
        inside = start + offsets < V
        x = tl.load(
            logits_ptr + start + offsets,
            mask=inside,
            other=-float("inf"),
            eviction_policy="evict_last",
        ).to(tl.float32)
        higher = tl.maximum(top, tl.max(x, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher), axis=0)
        top = higher
    tl.store(loss_ptr + row, tl.log(total) + (top - own))
    if GRADIENT:
        share = scale / total
        for start in range(0, V, BLOCK):
            inside = start + offsets < V
            x = tl.load(logits_ptr + start + offsets, mask=inside, other=0.0)
            # Relative to the largest: x - lse loses the digits of a large lse.
            p = tl.exp(x.to(tl.float32) - top) * share
            p = tl.where(start + offsets == target, p - scale, p)
            tl.store(
                logits_ptr + start + offsets,
                p.to(logits_ptr.dtype.element_ty),
                mask=inside,
                eviction_policy="evict_first",
            )


def warps(target: str, dtype: torch.dtype) -> int:
    """Warps of a program."""
    ampere = target == "cuda:80" and dtype != torch.float32
    return AMPERE_WARPS if ampere else WARPS


def rows(
    logits_nV: torch.Tensor, target_n: torch.Tensor, scale: float, gradient: bool
) -> torch.Tensor:
    """loss_n = lse − logit of the target, fp32. With `gradient` the logits become
    scale · (softmax − onehot).
    """
    n, V = logits_nV.shape
    loss_n = torch.empty(n, dtype=torch.float32, device=logits_nV.device)
    launch(
        _row,
        (n,),
        logits_nV,
        target_n,
        loss_n,
        logits_nV.stride(0),
        V,
        scale,
        BLOCK=min(BLOCK, triton.next_power_of_2(V)),
        GRADIENT=gradient,
        num_warps=warps(target_of(logits_nV.device), logits_nV.dtype),
    )
    return loss_n
