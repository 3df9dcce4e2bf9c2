"""The ops: our kernels on a GPU in 16 bits, torch's formula elsewhere."""

import torch
import torch.nn.functional as F

from kernels.gelu.reference import plain

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


@torch.library.custom_op("kablate::gelu", mutates_args=())
def _gelu(x: torch.Tensor) -> torch.Tensor:
    return _kernel(x.contiguous())


def _kernel(x: torch.Tensor) -> torch.Tensor:
    from kernels.gelu.kernel import forward

    return forward(x)


@_gelu.register_fake
def _(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx, upstream):
    (x,) = ctx.saved_tensors
    return torch.ops.aten.gelu_backward(upstream, x, approximate="tanh")


_gelu.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("kablate::gelu_alone", mutates_args=())
def _alone(x: torch.Tensor) -> torch.Tensor:
    return _kernel(x.contiguous())


@_alone.register_fake
def _(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("kablate::gelu_alone_backward", mutates_args=())
def _alone_backward(upstream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    from kernels.gelu.kernel import backward_alone

    return backward_alone(upstream.contiguous(), x.contiguous())


@_alone_backward.register_fake
def _(upstream, x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _backward_alone(ctx, upstream):
    return _alone_backward(upstream, *ctx.saved_tensors)


_alone.register_autograd(_backward_alone, setup_context=_save)


@torch.library.custom_op("kablate::gelu_biased", mutates_args=())
def _biased(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """gelu(x) of an x that holds the bias already."""
    return _kernel(x.contiguous())


@_biased.register_fake
def _(x, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("kablate::gelu_biased_backward", mutates_args=())
def _biased_backward(
    upstream: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """dx and its sum over all but the last dimension, in fp32."""
    from kernels.gelu.kernel import backward

    rows = (t.contiguous().view(-1, t.shape[-1]) for t in (upstream, x))
    dx, total = backward(*rows)
    return dx.view(x.shape), total


@_biased_backward.register_fake
def _(upstream, x):
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    return dx, x.new_empty(x.shape[-1], dtype=torch.float32)


def _save_biased(ctx, inputs, output) -> None:
    x, bias = inputs
    ctx.dtype = bias.dtype
    ctx.save_for_backward(x)


def _backward_biased(ctx, upstream):
    dx, total = _biased_backward(upstream, *ctx.saved_tensors)
    return dx, total.to(ctx.dtype)


_biased.register_autograd(_backward_biased, setup_context=_save_biased)
