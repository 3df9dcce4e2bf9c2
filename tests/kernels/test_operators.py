"""An operator is seen by autograd and the compiler, and differentiated once."""

from typing import NamedTuple

import pytest
import torch

from kernels.operators import differentiable, fake, operator


@operator("test_cubed")
def cubed(x: torch.Tensor) -> torch.Tensor:
    return x**3


@operator("test_cubed_slope")
def slope(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return dy * 3 * x**2


@fake(cubed)
def _(x):
    return torch.empty_like(x)


@fake(slope)
def _(dy, x):
    return torch.empty_like(x)


def save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


differentiable(cubed, lambda ctx, dy: slope(dy, *ctx.saved_tensors), save)


class Line(NamedTuple):
    factor: float
    name: str | None = None


@operator("test_line")
def line(x: torch.Tensor, *rest: Line) -> torch.Tensor:
    return Line(*rest).factor * x


def test_fields_are_arguments():
    wanted = "kablate::test_line(Tensor x, float factor, str? name) -> Tensor"
    assert str(line._schema) == wanted
    assert line(torch.ones(1), *Line(3.0)).item() == 3.0


@pytest.fixture
def x():
    return torch.tensor([1.0, -2.0, 0.5], requires_grad=True)


def test_opcheck(x):
    torch.library.opcheck(cubed, (x,))
    torch.library.opcheck(slope, (torch.ones(3), x.detach()))


@pytest.mark.parametrize("compiled", (False, True))
def test_gradient(x, compiled):
    run = torch.compile(cubed, fullgraph=True, backend="aot_eager")
    y = (run if compiled else cubed)(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, 3 * x.detach() ** 2)


@pytest.mark.parametrize("compiled", (False, True))
def test_no_gradient_without_a_formula(x, compiled):
    """It would be None, and a sum would lose a term."""

    def run(x):
        return x + slope(x, x)

    call = torch.compile(run, fullgraph=True, backend="aot_eager") if compiled else run
    with pytest.raises(Exception, match="kablate::test_cubed_slope has no gradient"):
        call(x)
    with torch.no_grad():
        torch.testing.assert_close(call(x), x + 3 * x**3)


def test_no_second_derivative(x):
    """Refused as that, and not by what its backward happens to call."""
    with pytest.raises(RuntimeError) as caught:
        torch.autograd.grad(cubed(x).sum(), x, create_graph=True)
    assert caught.type is NotImplementedError
    assert str(caught.value) == "kablate::test_cubed has no second derivative"
