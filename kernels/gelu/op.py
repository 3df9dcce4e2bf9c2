"""The op: our kernel forward on a GPU, torch's formula backward."""

import torch

from kernels.gelu.reference import plain


def gelu(x: torch.Tensor) -> torch.Tensor:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, of any shape and dtype.

    On a GPU in 16 bits the forward pass is a kernel that makes the tanh from one
    exponential: inductor's takes 1.6 times as long (0.386 against 0.236 ms for
    65,536 x 3072 on an H200), bound by arithmetic. The backward pass is aten's,
    which a compiler fuses with its neighbours.
    Elsewhere this is torch's own.
    """
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return _gelu(x)
    return plain(x)


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
