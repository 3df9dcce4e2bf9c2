"""The ops: our kernels on a GPU in 16 bits, torch's formula elsewhere."""

import torch
import torch.nn.functional as F

from kernels.gelu.reference import plain
from kernels.operators import differentiable, fake, operator

HALF = (torch.bfloat16, torch.float16)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, of any shape and dtype.

    On a GPU in 16 bits the forward pass is a kernel that makes the tanh from one
    exponential: inductor's takes 1.6 times as long (0.386 against 0.236 ms for
    65,536 x 3072 on an H200), bound by arithmetic. The backward pass is aten's,
    which a compiler fuses with its neighbours.
    Elsewhere this is torch's own.
    """
    if x.is_cuda and x.dtype in HALF:
        return _gelu(x)
    return plain(x)


def linear_gelu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """gelu(x Wᵀ + b).

    On a GPU in 16 bits the backward pass of the activation gives the gradient of b,
    the sum of its result over rows, while it has the values in registers; a sum of
    its own reads them once more (0.145 ms for 65,536 x 3072 on an H100). Without a
    bias it is a kernel too (0.276 against inductor's 0.306 ms on an H200). Neither has
    a second derivative. This
    is for an activation that one product reads: of several a compiler adds up the
    gradients within the backward pass of `gelu`.
    """
    dtype = x.dtype
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    if not x.is_cuda or dtype not in HALF:
        return gelu(F.linear(x, weight, bias))
    if bias is None:
        return _alone(F.linear(x, weight))
    return _biased(F.linear(x, weight, bias.detach()), bias)


@operator("gelu")
def _gelu(x: torch.Tensor) -> torch.Tensor:
    return _kernel(x.contiguous())


def _kernel(x: torch.Tensor) -> torch.Tensor:
    from kernels.gelu.kernel import forward

    return forward(x)


@fake(_gelu)
def _(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx, upstream):
    (x,) = ctx.saved_tensors
    return torch.ops.aten.gelu_backward(upstream, x, approximate="tanh")


differentiable(_gelu, _backward, _save, twice=True)


@operator("gelu_alone")
def _alone(x: torch.Tensor) -> torch.Tensor:
    return _kernel(x.contiguous())


@fake(_alone)
def _(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("gelu_alone_backward")
def _alone_backward(upstream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    from kernels.gelu.kernel import backward_alone

    return backward_alone(upstream.contiguous(), x.contiguous())


@fake(_alone_backward)
def _(upstream, x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _backward_alone(ctx, upstream):
    return _alone_backward(upstream, *ctx.saved_tensors)


differentiable(_alone, _backward_alone, _save)


@operator("gelu_biased")
def _biased(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """gelu(x) of an x that holds the bias already."""
    return _kernel(x.contiguous())


@fake(_biased)
def _(x, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("gelu_biased_backward")
def _biased_backward(
    upstream: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """dx, and its sums over ROWS rows each, in fp32, which the caller adds up: a
    compiler does so at less cost for the host.
    """
    from kernels.gelu.kernel import backward

    lines_LF = new_lines(x)
    return backward(upstream.contiguous(), x.contiguous(), lines_LF), lines_LF


@fake(_biased_backward)
def _(upstream, x):
    return torch.empty_like(x, memory_format=torch.contiguous_format), new_lines(x)


def new_lines(x: torch.Tensor) -> torch.Tensor:
    """Room for the sums."""
    from kernels.gelu.kernel import ROWS

    F = x.shape[-1]
    return x.new_empty(-(-x.numel() // F // ROWS), F, dtype=torch.float32)


def _save_biased(ctx, inputs, output) -> None:
    x, bias = inputs
    ctx.dtype = bias.dtype
    ctx.save_for_backward(x)


def _backward_biased(ctx, upstream):
    dx, lines_LF = _biased_backward(upstream, *ctx.saved_tensors)
    return dx, lines_LF.sum(dim=0).to(ctx.dtype)


differentiable(_biased, _backward_biased, _save_biased)
