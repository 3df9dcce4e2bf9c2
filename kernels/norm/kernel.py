"""Rows of the residual stream: one pass forward, one backward.

A row stays in registers, so that each pass reads and writes every tensor once. The
gradients of the weight and the bias are sums over rows: a program of the backward
pass adds up its share and writes one line, and the lines are added up in a fixed
order.

Legend: N rows, E columns, P programs of the backward pass.
"""

import torch
import triton
import triton.language as tl

from kernels.targets import target_of

# Columns of a row per warp; fewer on RDNA 3, where the rows that are read ahead lie in
# registers too.
PER_WARP = {"hip:gfx1100": 256}
ANY_PER_WARP = 1024
# Programs of the backward pass and stages of its loop, of 264 to 4224 and 1 to 4 the
# fastest on an H200, which has 132 processors.
PROGRAMS, STAGES = 1056, 3
# Wider blocks have two stages, which fit an Ampere's shared memory.
STAGED = 4096


def shape(target: str, E: int) -> tuple[int, int]:
    """(BLOCK, warps) of a program that holds one row."""
    block = triton.next_power_of_2(E)
    return block, max(1, block // PER_WARP.get(target, ANY_PER_WARP))


def stages(block: int) -> int:
    """Of the loop over rows."""
    return STAGES if block <= STAGED else STAGES - 1


@triton.jit
def _forward(
    x_ptr, y_ptr, weight_ptr, bias_ptr, sum_ptr, out_ptr, mean_ptr, rate_ptr, eps,
    E: tl.constexpr, BLOCK: tl.constexpr, CENTRED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < E
    at = row * E + column
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
    kept = (x + y).to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + at, kept, mask=inside)
    # What is normed is what later layers read.
    d = kept.to(tl.float32)
    if CENTRED:
        mean = tl.sum(d, 0) / E
        tl.store(mean_ptr + row, mean)
        d = tl.where(inside, d - mean, 0.0)
    rate = tl.rsqrt(tl.sum(d * d, 0) / E + eps)
    tl.store(rate_ptr + row, rate)
    out = d * rate * tl.load(weight_ptr + column, mask=inside).to(tl.float32)
    if bias_ptr is not None:
        out += tl.load(bias_ptr + column, mask=inside).to(tl.float32)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


def forward(
    x_NE: torch.Tensor,
    y_NE: torch.Tensor,
    weight_E: torch.Tensor,
    bias_E: torch.Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x + y like x, its norm like y, the mean of every row where it is subtracted,
    1 / √(mean square + eps) of every row) of contiguous tensors; the last two in fp32.
    """
    N, E = x_NE.shape
    sum_NE, out_NE = torch.empty_like(x_NE), torch.empty_like(y_NE)
    mean_N = x_NE.new_empty(N if centred else 0, dtype=torch.float32)
    rate_N = x_NE.new_empty(N, dtype=torch.float32)
    block, warps = shape(target_of(x_NE.device), E)
    _forward[(N,)](
        x_NE, y_NE, weight_E, bias_E, sum_NE, out_NE, mean_N, rate_N, eps,
        E=E, BLOCK=block, CENTRED=centred, num_warps=warps,
    )  # fmt: skip
    return sum_NE, out_NE, mean_N, rate_N


@triton.jit
def _backward(
    dsum_ptr, dout_ptr, sum_ptr, weight_ptr, mean_ptr, rate_ptr, dx_ptr, dy_ptr,
    lines_ptr, N, E: tl.constexpr, BLOCK: tl.constexpr, CENTRED: tl.constexpr,
    BIAS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dx = rate (g − x̂ mean(g x̂) − mean g) + dsum, g = dout ⊙ w, of a share of the rows;
    without mean g where no mean was subtracted.
    """
    column = tl.arange(0, BLOCK)
    inside = column < E
    weight = tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    first, step = tl.program_id(0), tl.num_programs(0)
    for row in tl.range(first, N, step, num_stages=STAGES):
        at = tl.cast(row, tl.int64) * E + column
        hat = tl.load(sum_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dout = tl.load(dout_ptr + at, mask=inside, other=0.0).to(tl.float32)
        rate = tl.load(rate_ptr + row)
        if CENTRED:
            hat -= tl.load(mean_ptr + row)
        hat *= rate
        g = dout * weight
        dx = g - hat * (tl.sum(g * hat, 0) / E)
        if CENTRED:
            dx -= tl.sum(g, 0) / E
        dx *= rate
        if dsum_ptr is not None:
            dx += tl.load(dsum_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        if dy_ptr is not None:
            tl.store(dy_ptr + at, dx.to(dy_ptr.dtype.element_ty), mask=inside)
        dweight += dout * hat
        if BIAS:
            dbias += dout
    line = lines_ptr + first * (E * (1 + BIAS))
    tl.store(line + column, dweight, mask=inside)
    if BIAS:
        tl.store(line + E + column, dbias, mask=inside)


def backward(
    dsum_NE: torch.Tensor | None,
    dout_NE: torch.Tensor,
    sum_NE: torch.Tensor,
    weight_E: torch.Tensor,
    mean_N: torch.Tensor,
    rate_N: torch.Tensor,
    centred: bool,
    bias: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """dx_NE like the sum; dy_NE like dout_NE, None where it is dx_NE; and in fp32 the
    gradient of the weight and, `bias`, of the bias, one after the other. Contiguous
    tensors; dsum_NE None: 0.
    """
    N, E = sum_NE.shape
    dx_NE, dy_NE, programs = torch.empty_like(sum_NE), None, min(N, PROGRAMS)
    if dout_NE.dtype != sum_NE.dtype:
        dy_NE = torch.empty_like(dout_NE)
    lines_PE = rate_N.new_empty(programs, E * (1 + bias))
    block, warps = shape(target_of(sum_NE.device), E)
    _backward[(programs,)](
        dsum_NE, dout_NE, sum_NE, weight_E, mean_N, rate_N, dx_NE, dy_NE, lines_PE, N,
        E=E, BLOCK=block, CENTRED=centred, BIAS=bias, STAGES=stages(block), num_warps=warps,
    )  # fmt: skip
    return dx_NE, dy_NE, lines_PE.sum(dim=0)
