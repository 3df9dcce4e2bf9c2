"""Rows of the residual stream: one pass forward, one backward.

A row stays in registers, so that each pass reads and writes every tensor once. The
gradients of the weight and the bias are sums over rows: a program of the backward
pass adds up its share and writes one line, and the lines are added up in a fixed
order.

Legend: N rows, E columns, P programs of the backward pass.
"""

from functools import cache

import torch
import triton
import triton.language as tl

from kernels.launching import launch
from kernels.targets import target_of

# Columns of a row per warp; fewer on RDNA 3, where the rows that are read ahead lie in
# registers too.
PER_WARP = {"hip:gfx1100": 256}
ANY_PER_WARP = 1024
# Of the loop over rows of the backward pass, of 1 to 4 the fastest on an H200.
STAGES = 3
# Wider blocks have two stages, which fit an Ampere's shared memory.
STAGED = 4096
DENSE = torch.contiguous_format


@cache
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
    x: torch.Tensor,
    y: torch.Tensor,
    weight_E: torch.Tensor,
    bias_E: torch.Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x + y like x, its norm like y, the mean of every row where it is subtracted,
    1 / √(mean square + eps) of every row) of contiguous x and y [..., E], whose rows are
    N; the last two in fp32.
    """
    E = x.shape[-1]
    N = x.numel() // E
    total, out = (torch.empty_like(t, memory_format=DENSE) for t in (x, y))
    mean_N = x.new_empty(N if centred else 0, dtype=torch.float32)
    rate_N = x.new_empty(N, dtype=torch.float32)
    block, warps = shape(target_of(x.device), E)
    launch(
        _forward, (N,), x, y, weight_E, bias_E, total, out, mean_N, rate_N, eps,
        E=E, BLOCK=block, CENTRED=centred, num_warps=warps,
    )  # fmt: skip
    return total, out, mean_N, rate_N


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
    dtotal: torch.Tensor | None,
    dout: torch.Tensor,
    total: torch.Tensor,
    weight_E: torch.Tensor,
    mean_N: torch.Tensor,
    rate_N: torch.Tensor,
    lines_PE: torch.Tensor,
    centred: bool,
    bias: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """dx like the sum `total`; dy like dout, None where it is dx. Into the lines, fp32,
    go parts of the gradient of the weight and, `bias`, of the bias, one after the
    other; there are as many programs as lines. Contiguous tensors; dtotal None: 0.
    """
    N, E = rate_N.shape[0], total.shape[-1]
    dx, dy = torch.empty_like(total, memory_format=DENSE), None
    if dout.dtype != total.dtype:
        dy = torch.empty_like(dout, memory_format=DENSE)
    block, warps = shape(target_of(total.device), E)
    launch(
        _backward, (len(lines_PE),), dtotal, dout, total, weight_E, mean_N, rate_N, dx, dy,
        lines_PE, N, E=E, BLOCK=block, CENTRED=centred, BIAS=bias, STAGES=stages(block),
        num_warps=warps,
    )  # fmt: skip
    return dx, dy
