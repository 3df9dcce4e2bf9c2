"""GELU: the op, and its kernel under Triton's interpreter."""

import pytest
import torch

from kernels.gelu import gelu, op, plain


def test_off_the_gpu_it_is_torchs_own():
    x = torch.randn(100)
    assert torch.equal(gelu(x), plain(x))


def forward(x: torch.Tensor) -> torch.Tensor:
    from kernels.gelu.kernel import forward

    return forward(x)


@pytest.mark.parametrize("size", (1, 2047, 2049))
def test_the_kernel(interpret, size):
    spread = torch.logspace(-4, 4, size) * torch.randn(size).sign()
    y = interpret(forward, spread)
    wanted = plain(spread.double())
    assert not y.isnan().any()
    assert ((y - wanted).norm() / wanted.norm()).item() < 1e-6
    assert (y - wanted).abs().max() < 1e-6 * spread.abs().max()


def test_the_op(monkeypatch):
    """Gradient and fake tensors, with the definition in the kernel's place."""
    monkeypatch.setattr(op, "_kernel", plain)
    x = torch.randn(8, 3, requires_grad=True)
    torch.library.opcheck(op._gelu, (x,))
    found = torch.autograd.grad(op._gelu(x).sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad(plain(x).sum(), x))
