"""One row of logits to its loss and, in place, to its gradient.

Legend: n rows of a chunk, V vocabulary rows.
"""

import torch
import triton
import triton.language as tl

BLOCK = 8192
WARPS = 16


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
    # One running maximum and sum per lane, reduced once at the end.
    m = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, V, BLOCK):
        x = tl.load(
            logits_ptr + start + offsets,
            mask=start + offsets < V,
            other=-float("inf"),
        ).to(tl.float32)
        higher = tl.maximum(m, x)
        # A lane that has seen nothing has m = x = -inf, and -inf + inf is NaN.
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp(m - shift) + tl.exp(x - shift)
        m = higher
    top = tl.max(m, axis=0)
    whole = tl.sum(total * tl.exp(m - top), axis=0)
    tl.store(loss_ptr + row, tl.log(whole) + (top - own))
    if GRADIENT:
        for start in range(0, V, BLOCK):
            inside = start + offsets < V
            x = tl.load(logits_ptr + start + offsets, mask=inside, other=0.0)
            # Relative to the largest: x - lse loses the digits of a large lse.
            p = tl.exp(x.to(tl.float32) - top) / whole
            p = tl.where(start + offsets == target, p - 1.0, p) * scale
            tl.store(
                logits_ptr + start + offsets,
                p.to(logits_ptr.dtype.element_ty),
                mask=inside,
            )


def rows(
    logits_nV: torch.Tensor, target_n: torch.Tensor, scale: float, gradient: bool
) -> torch.Tensor:
    """loss_n = lse − logit of the target, fp32. With `gradient` the logits become
    scale · (softmax − onehot).
    """
    n, V = logits_nV.shape
    loss_n = torch.empty(n, dtype=torch.float32, device=logits_nV.device)
    _row[(n,)](
        logits_nV,
        target_n,
        loss_n,
        logits_nV.stride(0),
        V,
        scale,
        BLOCK=min(BLOCK, triton.next_power_of_2(V)),
        GRADIENT=gradient,
        num_warps=WARPS,
    )
    return loss_n
