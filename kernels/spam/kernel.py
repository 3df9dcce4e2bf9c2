"""The step of AdamWSPAM in Triton: all parameters of a group in one launch.

28 bytes per parameter, read and written once. The operations are the
reference's, in fp32; a compiler may fuse a product and a sum.
"""

import torch
import triton
import triton.language as tl

from kernels.tensors import chunks, table

Tensors = list[torch.Tensor]

BLOCK = 4096
WARPS = 8


def step(
    params: Tensors,
    grads: Tensors,
    m: Tensors,
    v: Tensors,
    *,
    theta: float,
    keep: float,
    beta1: float,
    beta2: float,
    size: float,
    root: float,
    eps: float,
) -> None:
    """As the reference's, for fp32 tensors of one GPU; TypeError for others."""
    lists = [params, grads, m, v]
    for tensor in (tensor for tensors in lists for tensor in tensors):
        if tensor.dtype != torch.float32:
            raise TypeError(f"the kernel of AdamWSPAM steps fp32, not {tensor.dtype}")
    found = table(lists)
    layout = chunks(found.sizes, BLOCK, params[0].device)
    _step[(len(layout[0]),)](
        found.addresses,
        len(params),
        *layout,
        theta,
        keep,
        1 - beta1,
        beta2,
        1 - beta2,
        size,
        root,
        eps,
        CLIPS=theta > 0,
        ALIGNED=found.alignment,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


@triton.jit
def _step(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    theta,
    keep,
    new1,
    beta2,
    new2,
    size,
    root,
    eps,
    CLIPS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One chunk of one parameter."""
    chunk = tl.program_id(0)
    tensor = tl.load(tensor_C + chunk)
    at = tl.multiple_of(tl.load(start_C + chunk), BLOCK) + tl.arange(0, BLOCK)
    length = tl.load(sizes_N + tensor)
    if ALIGNED == 16:
        length = tl.multiple_of(length, 4)
    inside = at < length
    p_at = _row(table, 0, tensors, tensor, ALIGNED) + at
    g_at = _row(table, 1, tensors, tensor, ALIGNED) + at
    m_at = _row(table, 2, tensors, tensor, ALIGNED) + at
    v_at = _row(table, 3, tensors, tensor, ALIGNED) + at
    p = tl.load(p_at, mask=inside, other=0.0)
    g = tl.load(g_at, mask=inside, other=0.0)
    m = tl.load(m_at, mask=inside, other=0.0)
    v = tl.load(v_at, mask=inside, other=0.0)
    if CLIPS:
        bound = tl.sqrt_rn(v * theta)
        g = tl.where((v > 0) & (g > bound), bound, g)
        g = tl.where((v > 0) & (g < -bound), -bound, g)
    m += new1 * (g - m)
    v = v * beta2 + new2 * (g * g)
    below = tl.div_rn(tl.sqrt_rn(v), root) + eps
    p = p * keep - size * tl.div_rn(m, below)
    tl.store(p_at, p, mask=inside)
    tl.store(m_at, m, mask=inside)
    tl.store(v_at, v, mask=inside)


@triton.jit
def _row(table, row, tensors, tensor, ALIGNED: tl.constexpr):
    """The address of one fp32 tensor of a row of the table."""
    address = tl.load(table + row * tensors + tensor)
    return tl.multiple_of(address.to(tl.pointer_type(tl.float32)), ALIGNED)
