"""GELU: the op, and its kernel under Triton's interpreter."""

import pytest
import torch

from kernels.gelu import gelu, linear_gelu, op, plain


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
    """Gradients and fake tensors, with the definition in the kernel's place."""
    monkeypatch.setattr(op, "_kernel", plain)
    x = torch.randn(8, 3, requires_grad=True)
    torch.library.opcheck(op._gelu, (x,))
    found, wanted = (
        torch.autograd.grad(y.sum(), x, create_graph=True)
        for y in (op._gelu(x), plain(x))
    )
    torch.testing.assert_close(found, wanted)
    found, wanted = (torch.autograd.grad(dx.sum(), x) for (dx,) in (found, wanted))
    torch.testing.assert_close(found, wanted)


def backward(dy: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from kernels.attention.check import poisoned
    from kernels.gelu.kernel import backward

    with poisoned():
        lines = op.new_lines(x)
        return backward(dy, x, lines), lines.sum(0)


@pytest.mark.parametrize("rows, columns", [(1, 8), (64, 256), (130, 300)])
def test_the_kernel_backward(interpret, rows, columns):
    x, dy = 3 * torch.randn(rows, columns), torch.randn(rows, columns)
    x[0, :4] = torch.tensor([40.0, -40.0, 3e38, -3e38])
    leaf = x.clamp(-40, 40).double().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(leaf), leaf, dy.double())
    dx, total = interpret(backward, dy, x)
    assert ((dx - wanted).norm() / wanted.norm()).item() < 2e-6
    assert (total - wanted.sum(dim=0)).abs().max() < 2e-5 * rows**0.5


def backward_alone(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    from kernels.attention.check import poisoned
    from kernels.gelu.kernel import backward_alone

    with poisoned():
        return backward_alone(dy, x)


def test_the_kernel_backward_alone(interpret):
    x, dy = 3 * torch.randn(3, 2049), torch.randn(3, 2049)
    leaf = x.double().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(leaf), leaf, dy.double())
    dx = interpret(backward_alone, dy, x)
    assert ((dx - wanted).norm() / wanted.norm()).item() < 2e-6


def test_the_op_without_a_bias(monkeypatch):
    """Likewise."""

    def slope(upstream, x):
        return torch.ops.aten.gelu_backward(upstream, x, approximate="tanh")

    monkeypatch.setattr(op, "_kernel", plain)
    monkeypatch.setattr("kernels.gelu.kernel.backward_alone", slope)
    x = torch.randn(4, 5, 6, requires_grad=True)
    torch.library.opcheck(op._alone, (x,))
    torch.library.opcheck(op._alone_backward, (x.detach().cos(), x.detach()))
    ours = torch.autograd.grad(op._alone(x).sin().sum(), x)
    wanted = torch.autograd.grad(plain(x).sin().sum(), x)
    torch.testing.assert_close(ours, wanted)


def test_the_op_with_a_bias(monkeypatch):
    """Gradients and fake tensors, with definitions in the kernels' places."""

    def summed(upstream, x, lines):
        dx = torch.ops.aten.gelu_backward(upstream, x, approximate="tanh")
        lines.copy_(dx.flatten(0, -2).sum(dim=0) / len(lines))
        return dx

    monkeypatch.setattr(op, "_kernel", plain)
    monkeypatch.setattr("kernels.gelu.kernel.backward", summed)
    x, weight = (torch.randn(*s, requires_grad=True) for s in ((4, 5, 3), (6, 3)))
    bias = torch.randn(6, requires_grad=True)
    held = torch.nn.functional.linear(x, weight, bias.detach())
    torch.library.opcheck(op._biased, (held.detach().requires_grad_(), bias))
    torch.library.opcheck(op._biased_backward, (held.detach().cos(), held.detach()))
    ours = torch.autograd.grad(op._biased(held, bias).sin().sum(), (x, weight, bias))
    wanted = plain(torch.nn.functional.linear(x, weight, bias))
    assert torch.equal(linear_gelu(x, weight, bias), wanted)
    wanted = torch.autograd.grad(wanted.sin().sum(), (x, weight, bias))
    for mine, theirs in zip(ours, wanted):
        torch.testing.assert_close(mine, theirs)
