"""The step of AdamW and AdamWSPAM in Triton: all tensors of a list in one launch.

Every number is read and written once: 28 bytes per parameter with fp32
gradients, as many with bf16 gradients and a bf16 copy, one more with a mask. The
operations are the reference's, in fp32; a compiler may fuse a product and a sum.
Launches are as deterministic as their grids: no atomics.
"""

import torch
import triton
import triton.language as tl

from kernels.tensors import chunks, table

Tensors = list[torch.Tensor]

BLOCK = 2048
WARPS = 4


def square_sum(grads: Tensors, masks: Tensors | None = None) -> torch.Tensor:
    """As the reference's: partial sums of chunks, then their sum."""
    low = _type(grads, (torch.float32, torch.bfloat16)) == torch.bfloat16
    found = table([grads] if masks is None else [grads, masks])
    layout = chunks(found.sizes, BLOCK, grads[0].device)
    parts_C = torch.empty(len(layout[0]), device=grads[0].device)
    _square_sum[(len(parts_C),)](
        found.addresses,
        len(grads),
        *layout,
        parts_C,
        LOW=low,
        MASKED=masks is not None,
        ALIGNED=found.alignment,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return parts_C.sum()


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
    scale: torch.Tensor | None = None,
    masks: Tensors | None = None,
    copies: Tensors | None = None,
) -> None:
    """As the reference's, for tensors of one GPU; TypeError for other dtypes."""
    for tensors in (params, m, v):
        _type(tensors, (torch.float32,))
    low = _type(grads, (torch.float32, torch.bfloat16)) == torch.bfloat16
    lists = [params, grads, m, v]
    if masks is not None:
        _type(masks, (torch.bool,))
        lists.append(masks)
    if copies is not None:
        _type(copies, (torch.bfloat16,))
        lists.append(copies)
    found = table(lists)
    layout = chunks(found.sizes, BLOCK, params[0].device)
    _step[(len(layout[0]),)](
        found.addresses,
        len(params),
        *layout,
        found.addresses if scale is None else scale,
        theta,
        keep,
        1 - beta1,
        beta2,
        1 - beta2,
        size,
        root,
        eps,
        CLIPS=theta > 0,
        LOW=low,
        SCALED=scale is not None,
        MASKED=masks is not None,
        COPIED=len(lists) - 1 if copies is not None else 0,
        ALIGNED=found.alignment,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def _type(tensors: Tensors, allowed: tuple[torch.dtype, ...]) -> torch.dtype:
    """The one dtype of a list; TypeError for mixed or other ones."""
    found = {tensor.dtype for tensor in tensors}
    if len(found) != 1 or not found <= set(allowed):
        raise TypeError(
            f"the step takes {' or '.join(map(str, allowed))} here, "
            f"not {', '.join(sorted(map(str, found)))}"
        )
    return found.pop()


@triton.jit
def _chunk(tensor_C, start_C, sizes_N, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """(tensor, elements, which of them exist) of this program's chunk."""
    chunk = tl.program_id(0)
    tensor = tl.load(tensor_C + chunk)
    at = tl.multiple_of(tl.load(start_C + chunk), BLOCK) + tl.arange(0, BLOCK)
    length = tl.load(sizes_N + tensor)
    if ALIGNED == 16:
        length = tl.multiple_of(length, 4)
    return tensor, at, at < length


@triton.jit
def _row(table, row, tensors, tensor, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The address of one tensor of a row of the table."""
    address = tl.load(table + row * tensors + tensor)
    return tl.multiple_of(address.to(tl.pointer_type(TYPE)), ALIGNED)


@triton.jit
def _gradient(
    table,
    row,
    mask_row,
    tensors,
    tensor,
    at,
    inside,
    LOW: tl.constexpr,
    MASKED: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """fp32 gradients of a chunk, 0 where they are masked."""
    if LOW:
        g_at = _row(table, row, tensors, tensor, tl.bfloat16, ALIGNED) + at
    else:
        g_at = _row(table, row, tensors, tensor, tl.float32, ALIGNED) + at
    g = tl.load(g_at, mask=inside, other=0.0).to(tl.float32)
    if MASKED:
        masks = _row(table, mask_row, tensors, tensor, tl.int8, ALIGNED)
        g = tl.where(tl.load(masks + at, mask=inside, other=0) != 0, 0.0, g)
    return g


@triton.jit
def _square_sum(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    parts_C,
    LOW: tl.constexpr,
    MASKED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Σ g² of one chunk."""
    tensor, at, inside = _chunk(tensor_C, start_C, sizes_N, ALIGNED, BLOCK)
    g = _gradient(table, 0, 1, tensors, tensor, at, inside, LOW, MASKED, ALIGNED)
    tl.store(parts_C + tl.program_id(0), tl.sum(g * g))


@triton.jit
def _step(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    scale,
    theta,
    keep,
    new1,
    beta2,
    new2,
    size,
    root,
    eps,
    CLIPS: tl.constexpr,
    LOW: tl.constexpr,
    SCALED: tl.constexpr,
    MASKED: tl.constexpr,
    COPIED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One chunk of one parameter; COPIED: the row of the copies, 0 without."""
    tensor, at, inside = _chunk(tensor_C, start_C, sizes_N, ALIGNED, BLOCK)
    p_at = _row(table, 0, tensors, tensor, tl.float32, ALIGNED) + at
    m_at = _row(table, 2, tensors, tensor, tl.float32, ALIGNED) + at
    v_at = _row(table, 3, tensors, tensor, tl.float32, ALIGNED) + at
    g = _gradient(table, 1, 4, tensors, tensor, at, inside, LOW, MASKED, ALIGNED)
    p = tl.load(p_at, mask=inside, other=0.0)
    m = tl.load(m_at, mask=inside, other=0.0)
    v = tl.load(v_at, mask=inside, other=0.0)
    if SCALED:
        g *= tl.load(scale)
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
    if COPIED > 0:
        c_at = _row(table, COPIED, tensors, tensor, tl.bfloat16, ALIGNED) + at
        tl.store(c_at, p.to(tl.bfloat16), mask=inside)
