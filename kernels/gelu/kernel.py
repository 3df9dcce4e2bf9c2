"""The elementwise passes; the backward one adds up columns on its way.

Legend: N rows, F columns.
"""

import torch
import triton
import triton.language as tl

from kernels.launching import blocks_of, launch

BLOCK = 2048
WARPS = 4
# Of the forward pass in fp16, where four spill.
HALF_WARPS = 8
# Rows of a program of the backward pass that adds up columns.
ROWS = 128
# A program of the backward pass: so many columns of ROWS rows, STEP at a time.
COLUMNS, STEP = 256, 8
# Of the backward pass that adds up nothing.
ALONE_WARPS = 8
# 2 sqrt(2/pi), and 2 sqrt(2/pi) 3 0.044715: the slope of 2u.
SLOPE, BEND = tl.constexpr(1.5957691216), tl.constexpr(0.2140644488)
# The slope of gelu is 0 or 1 to fp32's rounding from here on.
FAR = tl.constexpr(20.0)


@triton.jit
def _power(x):
    """e^(-2u) = 2^this: (1 + tanh u) / 2 = 1 / (1 + e^(-2u)), with 2 sqrt(2/pi)
    log2(e) folded into both coefficients.
    """
    return x * (-2.302208198 - 0.1029432397 * x * x)


@triton.jit
def _forward(x_ptr, y_ptr, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size).to(tl.float32)
    y = tl.fdiv(x, 1.0 + tl.exp2(_power(x)))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < size)


def forward_warps(dtype: torch.dtype) -> int:
    """Warps of a program of the forward pass."""
    return HALF_WARPS if dtype == torch.float16 else WARPS


def forward(x: torch.Tensor) -> torch.Tensor:
    """y in the shape and dtype of a contiguous x."""
    y = torch.empty_like(x)
    size, warps = x.numel(), forward_warps(x.dtype)
    grid = (blocks_of(size, BLOCK),)
    launch(_forward, grid, x, y, size, BLOCK=BLOCK, num_warps=warps)
    return y


@triton.jit
def _gradient(dy, x):
    """dx of fp32 values."""
    x = tl.minimum(tl.maximum(x, -FAR), FAR)
    s = tl.fdiv(1.0, 1.0 + tl.exp2(_power(x)))
    return dy * (s + x * s * (1.0 - s) * (SLOPE + BEND * x * x))


@triton.jit
def _backward_alone(dy_ptr, x_ptr, dx_ptr, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size).to(tl.float32)
    dy = tl.load(dy_ptr + at, mask=at < size).to(tl.float32)
    tl.store(dx_ptr + at, _gradient(dy, x).to(dx_ptr.dtype.element_ty), mask=at < size)


def backward_alone(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dx of contiguous tensors."""
    dx = torch.empty_like(x)
    size, grid = x.numel(), (blocks_of(x.numel(), BLOCK),)
    launch(_backward_alone, grid, dy, x, dx, size, BLOCK=BLOCK, num_warps=ALONE_WARPS)
    return dx


@triton.jit
def _backward(
    dy_ptr, x_ptr, dx_ptr, sums_ptr, N, F,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """dx of a block, and its column sums as one line of sums_[N / ROWS, F]."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(1) * ROWS
    total = tl.zeros([STEP, COLUMNS], tl.float32)
    for step in range(0, ROWS, STEP):
        row = first + step + tl.arange(0, STEP)
        at = row.to(tl.int64)[:, None] * F + column[None, :]
        inside = (row < N)[:, None] & (column < F)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dx = _gradient(dy, x)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        total += dx
    line = tl.program_id(1).to(tl.int64) * F
    tl.store(sums_ptr + line + column, tl.sum(total, 0), mask=column < F)


def backward(dy: torch.Tensor, x: torch.Tensor, lines_LF: torch.Tensor) -> torch.Tensor:
    """dx of contiguous tensors [..., F]; into the lines, fp32, go its sums over ROWS
    rows each.
    """
    dx, (lines, F) = torch.empty_like(x), lines_LF.shape
    launch(
        _backward, (blocks_of(F, COLUMNS), lines), dy, x, dx, lines_LF, x.numel() // F, F,
        COLUMNS=COLUMNS, ROWS=ROWS, STEP=STEP, num_warps=WARPS,
    )  # fmt: skip
    return dx
