"""The residual sum and its norm: the op, its kernels interpreted and on a GPU."""

import pytest
import torch

from gpt2.norm import EPS
from kernels.norm import add_norm, op, plain
from kernels.norm.reference import plain as definition

SHAPES = [(1, 8), (3, 96)]
# More rows than there are programs.
MANY = (1100, 24)


def inputs(rows: int, columns: int, device: str = "cpu", bias: bool = True):
    """x, y, weight, bias."""
    x, y = (torch.randn(rows, columns, device=device) for _ in range(2))
    # A mean far from 0 shows where it is not subtracted, small rows where eps is.
    x = (x + 3) * torch.logspace(-3, 1, rows, device=device)[:, None]
    weight, b = (torch.randn(columns, device=device) for _ in range(2))
    return x, y * 1e-3, weight, b if bias else None


def wanted(x, y, weight, bias, centred, ds, dnormed):
    """(s, normed), (dx, dweight, dbias) in float64, normed from s as it is kept."""
    s = (x.float() + y.float()).to(x.dtype)
    given = [s, weight] + ([] if bias is None else [bias])
    leaves = [t.detach().double().requires_grad_() for t in given]
    zero, b = torch.zeros_like(leaves[0]), leaves[2] if len(leaves) > 2 else None
    out = definition(leaves[0], zero, leaves[1], b, EPS, centred)
    upstream = [dnormed.double()] if ds is None else [ds.double(), dnormed.double()]
    return out, torch.autograd.grad(out[ds is None :], leaves, upstream)


def both(x, y, weight, bias, centred, ds, dnormed):
    """(s, normed), (dx, dy, sums) by the kernels."""
    from kernels.attention.check import poisoned
    from kernels.norm.kernel import backward, forward

    with poisoned():
        s, normed, mean, rate = forward(x, y, weight, bias, EPS, centred)
        given = s, weight, mean, rate, centred, bias is not None
        return (s, normed), backward(ds, dnormed, *given)


def require_close(found, exact, tolerance: float) -> None:
    """‖found − exact‖ ≤ tolerance ‖exact‖ of outputs and gradients, dweight and dbias
    in one.
    """
    (s, normed), (dx, dy, sums) = found
    (s64, normed64), (dx64, *sums64) = exact
    assert torch.equal(s.double(), s64)
    assert (dy is None) == (s.dtype == normed.dtype)
    assert dy is None or torch.equal(dy, dx.to(dy.dtype))
    pairs = (normed, normed64), (dx, dx64), (sums, torch.cat(sums64))
    for mine, theirs in pairs:
        assert (mine - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("rows, columns", SHAPES)
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("summed", (True, False))
def test_the_kernels(interpret, rows, columns, centred, bias, summed):
    given = inputs(rows, columns, bias=bias)
    upstream = [torch.randn(rows, columns) if summed else None]
    upstream.append(torch.randn(rows, columns))
    found = interpret(both, *given, centred, *upstream)
    require_close(found, wanted(*given, centred, *upstream), 2e-6)


def test_a_program_takes_several_rows(interpret):
    given, upstream = inputs(*MANY), [torch.randn(MANY) for _ in range(2)]
    found = interpret(both, *given, True, *upstream)
    require_close(found, wanted(*given, True, *upstream), 2e-6)


def test_an_fp32_stream(interpret):
    """Its branches and norms in 16 bits."""
    x, y, weight, bias = inputs(3, 96)
    given = x, y.half(), weight, bias
    upstream = torch.randn(3, 96), torch.randn(3, 96).half()
    found = interpret(both, *given, True, *upstream)
    (_, normed), (dx, _, _) = found
    assert normed.dtype == torch.float16 and dx.dtype == torch.float32
    require_close(found, wanted(*given, True, *upstream), torch.finfo(torch.half).eps)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "rows, columns", [*SHAPES, MANY, (5000, 768), (70, 4096), (9, 8192)]
)
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("stream", ("fp32", "same"))
def test_on_a_gpu(rows, columns, centred, dtype, stream):
    """Close to float64, twice the same bits."""
    x, y, *rest = inputs(rows, columns, "cuda")
    kept = torch.float32 if stream == "fp32" else dtype
    given = x.to(kept), y.to(dtype), *rest
    upstream = [torch.randn(rows, columns, device="cuda").to(t) for t in (kept, dtype)]
    found = both(*given, centred, *upstream)
    tolerance = 2 * torch.finfo(dtype).eps
    require_close(found, wanted(*given, centred, *upstream), tolerance)
    again = both(*given, centred, *upstream)
    for one, other in zip((*found[0], *found[1]), (*again[0], *again[1])):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
def test_off_the_gpu_it_is_torchs_own(centred, bias):
    x, y, weight, b = inputs(4, 6, bias=bias)
    s, normed = add_norm(x, y, weight, b, EPS, centred)
    assert torch.equal(s, x + y)
    torch.testing.assert_close(normed, plain(x, y, weight, b, EPS, centred)[1])


@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("use", ("both", "sum", "norm"))
def test_the_op(monkeypatch, centred, bias, use):
    """Gradients, fake tensors and outputs that nobody reads, with definitions in the
    kernels' places.
    """

    def forward(x, y, weight, b, eps, centred):
        s, normed = definition(x, y, weight, b, eps, centred)
        mean = s.mean(-1) if centred else s.new_empty(0)
        d = s - mean[:, None] if centred else s
        return s, normed, mean, (d.square().mean(-1) + eps).rsqrt()

    def backward(ds, dnormed, s, weight, mean, rate, centred, bias):
        hat = (s - mean[:, None] if centred else s) * rate[:, None]
        g = dnormed * weight
        dx = g - hat * (g * hat).mean(-1, keepdim=True)
        dx = (dx - g.mean(-1, keepdim=True) if centred else dx) * rate[:, None]
        sums = torch.cat([(dnormed * hat).sum(0), dnormed.sum(0)][: 1 + bias])
        dx = dx if ds is None else dx + ds
        return dx, dx.to(dnormed.dtype) if dnormed.dtype != dx.dtype else None, sums

    monkeypatch.setattr("kernels.norm.kernel.forward", forward)
    monkeypatch.setattr("kernels.norm.kernel.backward", backward)
    x, y, weight, b = inputs(6, 8, bias=bias)
    x, y = (t.view(2, 3, 8).requires_grad_() for t in (x, y))
    leaves = [x, y, weight.requires_grad_()]
    leaves += [b.requires_grad_()] if bias else []
    given = x, y, weight, b, EPS, centred
    torch.library.opcheck(op._add_norm, given)

    def loss(s, normed):
        terms = {"sum": s.sin(), "norm": normed.cos(), "both": s.sin() + normed.cos()}
        return terms[use].sum()

    ours, theirs = (
        torch.autograd.grad(loss(*outputs), leaves, allow_unused=True)
        for outputs in (op._add_norm(*given)[:2], definition(*given))
    )
    for mine, exact in zip(ours, theirs):
        if exact is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-4)
