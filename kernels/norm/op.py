"""The op: a kernel on a GPU in 16 bits, torch's formula elsewhere."""

import torch
import torch.nn.functional as F

from kernels.operators import differentiable, fake, operator

HALF = (torch.bfloat16, torch.float16)
# A row has to fit the registers of a program.
WIDEST = 8192
# Programs of the backward pass, of 264 to 4224 the fastest on an H200, which has 132
# processors.
PROGRAMS = 1056


def add_norm(
    x: torch.Tensor,
    y: torch.Tensor,
    weight_E: torch.Tensor,
    bias_E: torch.Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """s = x + y [..., E] and its LayerNorm (`centred`) or RMSNorm, as reference.py
    defines them: a residual sum and the norm that the next branch reads.

    Where the kernels serve, both passes read and write every tensor once (after a copy
    of what is not contiguous); inductor sums up to five earlier branches anew at each
    norm, and casts the gradient of the branch in a kernel of its own. There is no
    second derivative there.
    """
    if serves(x, y):
        return _add_norm(x, y, weight_E, bias_E, eps, centred)[:2]
    s = x + y
    if centred:
        return s, F.layer_norm(s, weight_E.shape, weight_E, bias_E, eps)
    normed = F.rms_norm(s, weight_E.shape, weight_E, eps)
    return s, normed if bias_E is None else normed + bias_E


def serves(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether the kernels compute this: on a GPU, equal shapes, rows that registers hold, y in 16
    bits, which are autocast's where that is on, and x in the same, or in fp32 under
    autocast. The norm is in y's 16 bits, as every product that reads it would round
    it; what several readers send back is added up in them.
    """
    if not x.is_cuda or y.dtype not in HALF or x.shape[-1] > WIDEST:
        return False
    if x.shape != y.shape:
        return False
    if torch.is_autocast_enabled("cuda"):
        same = torch.get_autocast_dtype("cuda") == y.dtype
        return same and x.dtype in (y.dtype, torch.float32)
    return x.dtype == y.dtype


@operator("add_norm")
def _add_norm(
    x: torch.Tensor,
    y: torch.Tensor,
    weight_E: torch.Tensor,
    bias_E: torch.Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    from kernels.norm.kernel import forward

    return forward(x.contiguous(), y.contiguous(), weight_E, bias_E, eps, centred)


@fake(_add_norm)
def _(x, y, weight_E, bias_E, eps, centred):
    N = x.numel() // x.shape[-1]
    s, normed = (
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, y)
    )
    mean_N = x.new_empty(N if centred else 0, dtype=torch.float32)
    return s, normed, mean_N, x.new_empty(N, dtype=torch.float32)


@operator("add_norm_backward")
def _add_norm_backward(
    ds: torch.Tensor | None,
    dnormed: torch.Tensor,
    s: torch.Tensor,
    weight_E: torch.Tensor,
    mean_N: torch.Tensor,
    rate_N: torch.Tensor,
    centred: bool,
    bias: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dx, dy (empty where it is dx) and the sums over rows that programs made, which
    the caller adds up: a compiler does so at less cost for the host.
    """
    from kernels.norm.kernel import backward

    ds = None if ds is None else ds.contiguous()
    given = ds, dnormed.contiguous(), s.contiguous(), weight_E, mean_N, rate_N
    lines_PE = new_lines(rate_N, s, bias)
    dx, dy = backward(*given, lines_PE, centred, bias)
    return dx, dnormed.new_empty(0) if dy is None else dy, lines_PE


@fake(_add_norm_backward)
def _(ds, dnormed, s, weight_E, mean_N, rate_N, centred, bias):
    dx, dy = (
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (s, dnormed)
    )
    dy = dy.new_empty(0) if dy.dtype == dx.dtype else dy
    return dx, dy, new_lines(rate_N, s, bias)


def new_lines(rate_N: torch.Tensor, s: torch.Tensor, bias: bool) -> torch.Tensor:
    """One line per program: of the weight's gradient, then of the bias'."""
    # Not len: it would make a program of its own for every number of rows.
    lines = torch.sym_min(rate_N.shape[0], PROGRAMS)
    return rate_N.new_empty(lines, s.shape[-1] * (1 + bias))


def _save(ctx, inputs, output) -> None:
    _, y, weight_E, bias_E, _, ctx.centred = inputs
    ctx.y_dtype, ctx.bias_dtype = y.dtype, None if bias_E is None else bias_E.dtype
    ctx.set_materialize_grads(False)
    s, _, mean_N, rate_N = output
    ctx.save_for_backward(s, weight_E, mean_N, rate_N)


def _backward(ctx, ds, dnormed, *_):
    s, weight_E, *rest = ctx.saved_tensors
    if dnormed is None:
        return ds, ds.to(ctx.y_dtype), None, None, None, None
    bias = ctx.bias_dtype is not None
    dx, dy, lines_PE = _add_norm_backward(
        ds, dnormed, s, weight_E, *rest, ctx.centred, bias
    )
    E, sums = s.shape[-1], lines_PE.sum(dim=0)
    return (
        dx,
        dx if ctx.y_dtype == s.dtype else dy,
        sums[:E].to(weight_E.dtype),
        sums[E:].to(ctx.bias_dtype) if bias else None,
        None,
        None,
    )


differentiable(_add_norm, _backward, _save)
