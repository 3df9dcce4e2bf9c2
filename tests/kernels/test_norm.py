"""The residual sum and its norm: the op, its kernels interpreted and on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from gpt2.model.norm import EPS
from kernels.norm import add_norm, op, plain

SHAPES = [(1, 8), (3, 96)]
# More rows than there are programs.
MANY = (1100, 24)
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
# ‖found − exact‖ / ‖exact‖ of what a kernel rounds to a type.
CLOSE = {FP32: 5e-6, BF16: 4e-3, FP16: 5e-4}
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def inputs(rows: int, columns: int, device: str = "cpu", bias: bool = True):
    """x, y, weight, bias, ds and dnormed, of which no part of dx is lost in another."""
    size = torch.logspace(-3, 1, rows, device=device)[:, None]
    x, y, ds, dnormed = (torch.randn(rows, columns, device=device) for _ in range(4))
    weight, b = (torch.randn(columns, device=device) for _ in range(2))
    # A mean far from 0 shows where it is not subtracted, small rows where eps is.
    x, y, ds = (x + 3) * size, y * 1e-3, ds / (size**2 + EPS).sqrt()
    return x, y, weight, b if bias else None, ds, dnormed


def wanted(x, y, weight, bias, ds, dnormed, centred):
    """(s, normed), (dx, dweight, dbias) in float64, normed from s as it is kept."""
    s = (x.float() + y.float()).to(x.dtype)
    given = [s, weight] + ([] if bias is None else [bias])
    leaves = [t.detach().double().requires_grad_() for t in given]
    zero, b = torch.zeros_like(leaves[0]), leaves[2] if len(leaves) > 2 else None
    out = plain(leaves[0], zero, leaves[1], b, EPS, centred)
    upstream = [dnormed.double()] if ds is None else [ds.double(), dnormed.double()]
    return out, torch.autograd.grad(out[ds is None :], leaves, upstream)


def both(x, y, weight, bias, ds, dnormed, centred):
    """(s, normed), (dx, dy, sums) by the kernels."""
    from kernels.attention.check import poisoned
    from kernels.norm.kernel import backward, forward

    with poisoned():
        s, normed, mean, rate = forward(x, y, weight, bias, EPS, centred)
        lines = op.new_lines(rate, s, bias is not None)
        given = s, weight, mean, rate, lines, centred, bias is not None
        return (s, normed), (*backward(ds, dnormed, *given), lines.sum(0))


def require_close(found, exact) -> None:
    """What each tensor's own type can hold."""
    (s, normed), (dx, dy, sums) = found
    (s64, normed64), (dx64, *sums64) = exact
    assert torch.equal(s.double(), s64)
    assert (dy is None) == (s.dtype == normed.dtype)
    assert dy is None or torch.equal(dy, dx.to(normed.dtype))
    for mine, theirs in (normed, normed64), (dx, dx64), (sums, torch.cat(sums64)):
        assert (mine - theirs).norm() <= CLOSE[mine.dtype] * theirs.norm()


@pytest.mark.parametrize("rows, columns", SHAPES)
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("summed", (True, False))
def test_the_kernels(interpret, rows, columns, centred, bias, summed):
    *given, ds, dnormed = inputs(rows, columns, bias=bias)
    given = *given, ds if summed else None, dnormed, centred
    require_close(interpret(both, *given), wanted(*given))


def test_a_program_takes_several_rows(interpret):
    given = *inputs(*MANY), True
    require_close(interpret(both, *given), wanted(*given))


def test_an_fp32_stream(interpret):
    """Its branches and norms in 16 bits."""
    x, y, weight, bias, ds, dnormed = inputs(3, 96)
    given = x, y.half(), weight, bias, ds, dnormed.half(), True
    found = interpret(both, *given)
    assert found[0][1].dtype == FP16 and found[1][0].dtype == FP32
    require_close(found, wanted(*given))


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("rows, columns", [*SHAPES, MANY, (5000, 768), (9, 8192)])
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("dtype", (BF16, FP16))
@pytest.mark.parametrize("stream", ("fp32", "same"))
def test_on_a_gpu(rows, columns, centred, dtype, stream):
    """Close to float64, twice the same bits."""
    x, y, weight, bias, ds, dnormed = inputs(rows, columns, "cuda")
    kept = FP32 if stream == "fp32" else dtype
    terms = x.to(kept), y.to(dtype), weight, bias, ds.to(kept), dnormed.to(dtype)
    given = *terms, centred
    found = both(*given)
    require_close(found, wanted(*given))
    again = both(*given)
    for one, other in zip((*found[0], *found[1]), (*again[0], *again[1])):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("stream", (FP32, BF16))
@pytest.mark.parametrize("compiled", (True, False))
def test_the_op_on_a_gpu(stream, compiled):
    """As the model calls it: under autocast, a branch that is a slice."""
    x, y, weight, bias, ds, dnormed = inputs(70, 96, "cuda")
    wide = torch.cat([y, y], 1).bfloat16().requires_grad_()
    leaves = [x.to(stream).requires_grad_(), wide, weight.requires_grad_()]
    leaves.append(bias.requires_grad_())
    upstream = ds.to(stream), dnormed.bfloat16()

    def run(x, wide, weight, bias):
        return add_norm(x, wide[:, :96], weight, bias, EPS, True)

    with torch.autocast("cuda", BF16):
        out = (torch.compile(run) if compiled else run)(*leaves)
    dx, dwide, *sums = torch.autograd.grad(out, leaves, upstream)
    assert dwide[:, 96:].abs().max() == 0
    dy = None if stream == BF16 else dwide[:, :96]
    exact = wanted(leaves[0], wide[:, :96], weight, bias, *upstream, True)
    require_close((out, (dx, dy, torch.cat(sums))), exact)


@pytest.mark.gpu
@pytest.mark.alone
@needs_a_gpu
def test_more_elements_than_32_bits_count():
    """The last of 2.8 million rows is what it is alone."""
    rows, E = 2_800_000, 768
    free = torch.cuda.mem_get_info()[0]
    if free < (needed := rows * E * 2 * 8):
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of GPU memory")
    x, y, ds, dnormed = (torch.randn(rows, E, device="cuda").bfloat16() for _ in "xydn")
    given = torch.randn(E, device="cuda"), None
    (_, normed), (dx, _, _) = both(x, y, *given, ds, dnormed, True)
    last = [t[-1:].clone() for t in (x, y, ds, dnormed)]
    (_, normed1), (dx1, _, _) = both(*last[:2], *given, *last[2:], True)
    assert torch.equal(normed[-1:], normed1) and torch.equal(dx[-1:], dx1)


@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
def test_off_the_gpu_it_is_torchs_own(centred, bias):
    x, y, weight, b, *_ = inputs(4, 6, bias=bias)
    s, normed = add_norm(x, y, weight, b, EPS, centred)
    assert torch.equal(s, x + y)
    torch.testing.assert_close(normed, plain(x, y, weight, b, EPS, centred)[1])


@pytest.mark.parametrize(
    "x, y, autocast, width, expected",
    [
        (BF16, BF16, None, 768, True),
        (FP16, FP16, FP16, 8192, True),
        (FP32, BF16, BF16, 768, True),
        (FP32, BF16, None, 768, False),
        (FP32, BF16, FP16, 768, False),
        (BF16, BF16, FP16, 768, False),
        (BF16, FP16, BF16, 768, False),
        (FP32, FP32, BF16, 768, False),
        (BF16, BF16, BF16, 8193, False),
    ],
)
def test_what_the_kernels_serve(monkeypatch, x, y, autocast, width, expected):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: autocast is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: autocast)
    x, y = (SimpleNamespace(is_cuda=True, dtype=t, shape=(3, width)) for t in (x, y))
    assert op.serves(x, y) is expected
    x.shape = (3, 1, width)
    assert op.serves(x, y) is False
    x.shape, x.is_cuda = y.shape, False
    assert op.serves(x, y) is False


def test_lengths_share_a_program(monkeypatch):
    """Compiled for one, then for any: the lines of programs do not tie it to a length."""
    monkeypatch.setattr("kernels.norm.kernel.forward", forward)
    monkeypatch.setattr("kernels.norm.kernel.backward", backward)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(
        lambda *given: sum(op._add_norm(*given, EPS, True)[:2]).sum(), backend=counter
    )
    for rows in (3, 5, 7, 11):
        x, y, weight, b, *_ = inputs(rows, 8)
        run(x.requires_grad_(), y, weight, b).backward()
    assert counter.frame_count == 2


def forward(x, y, weight, b, eps, centred):
    """The definition in the kernel's place."""
    assert x.is_contiguous() and y.is_contiguous()
    s, normed = plain(x, y, weight, b, eps, centred)
    mean = s.mean(-1) if centred else s.new_empty(0)
    d = s - mean[..., None] if centred else s
    rate_N = (d.square().mean(-1) + eps).rsqrt().flatten()
    return s, normed.to(y.dtype), mean.flatten(), rate_N


def backward(ds, dnormed, s, weight, mean, rate, lines, centred, bias):
    """Likewise, a line per row."""
    assert dnormed.is_contiguous() and (ds is None or ds.is_contiguous())
    rate = rate.view(*s.shape[:-1], 1)
    hat = (s - mean.view_as(rate) if centred else s) * rate
    g = dnormed * weight
    dx = g - hat * (g * hat).mean(-1, keepdim=True)
    dx = (dx - g.mean(-1, keepdim=True) if centred else dx) * rate
    parts = [part.flatten(0, -2).float() for part in (dnormed * hat, dnormed)]
    lines.copy_(torch.cat(parts[: 1 + bias], 1))
    dx = dx if ds is None else dx + ds
    return dx, dx.to(dnormed.dtype) if dnormed.dtype != dx.dtype else None


@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("branch", (FP32, BF16))
@pytest.mark.parametrize("use", ("both", "sum", "norm"))
def test_the_op(monkeypatch, centred, bias, branch, use):
    """Gradients, fake tensors and outputs that nobody reads, of a stream in fp32 and a
    branch that is a slice, with definitions in the kernels' places.
    """
    monkeypatch.setattr("kernels.norm.kernel.forward", forward)
    monkeypatch.setattr("kernels.norm.kernel.backward", backward)
    x, y, weight, b, *_ = inputs(6, 8, bias=bias)
    wide = torch.cat([y, y], 1).view(2, 3, 16).to(branch).requires_grad_()
    leaves = [x.view(2, 3, 8).requires_grad_(), wide, weight.to(branch)]
    leaves += [b.to(branch)] if bias else []
    leaves[2:] = [t.requires_grad_() for t in leaves[2:]]
    given = leaves[0], wide[..., :8], leaves[2], leaves[3] if bias else None

    def loss(s, normed):
        terms = {"sum": s.sin(), "norm": normed.cos(), "both": s.sin() + normed.cos()}
        return terms[use].sum()

    ours, theirs = (
        torch.autograd.grad(loss(*outputs), leaves, allow_unused=True)
        for outputs in (
            op._add_norm(*given, EPS, centred)[:2],
            plain(*given, EPS, centred),
        )
    )
    for mine, exact in zip(ours, theirs):
        if exact is None:
            assert mine is None
        elif branch == BF16:
            assert mine.dtype == exact.dtype
            assert (mine - exact).norm() <= 0.02 * exact.norm()
        else:
            torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-4)
    torch.library.opcheck(op._add_norm, (*given, EPS, centred))
    if bias:
        s, normed, *rows = (t.detach() for t in op._add_norm(*given, EPS, centred))
        given = s.cos(), normed.cos(), s, weight.detach(), *rows, centred, bias
        torch.library.opcheck(op._add_norm_backward, given)
