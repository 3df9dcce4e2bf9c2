"""The chunked loss of a linear head equals the plain one, value and gradients."""

import pytest
import torch

from kernels.linear_cross_entropy import linear_cross_entropy, op, plain

# Chunks of 5: a batch that is less, a multiple, and neither.
SIZES = (1, 4, 5, 10, 23)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(op, "CHUNK_ROWS", 5)


def batch(n, dtype=torch.float32, width=12, rows=31, scale=1.0):
    stream = torch.Generator().manual_seed(n)
    x = torch.randn(n, width, generator=stream) * scale
    w = torch.randn(rows, width, generator=stream)
    target = torch.randint(0, rows, (n,), generator=stream)
    return x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_(), target


def both(n, **options):
    """(loss, dx, dweight) of the op and of the definition in float64."""
    x, w, target = batch(n, **options)
    loss = linear_cross_entropy(x, w, target)
    loss.backward()
    x64, w64 = (t.detach().double().requires_grad_() for t in (x, w))
    wanted = plain(x64, w64, target)
    wanted.backward()
    return (loss, x.grad, w.grad), (wanted, x64.grad, w64.grad)


def error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("scale", (1e-4, 1.0, 30.0))
def test_value_and_gradients(n, scale):
    no_worse_than_plain(n, 1e-6, scale=scale)


def test_bf16():
    no_worse_than_plain(23, 1e-3, dtype=torch.bfloat16)


def no_worse_than_plain(n, floor, **options):
    """At most twice the plain path's error in the same dtype, plus a floor."""
    found, wanted = both(n, **options)
    x, w, target = batch(n, **options)
    loss = plain(x, w, target)
    loss.backward()
    for ours, theirs, exact in zip(found, (loss, x.grad, w.grad), wanted):
        assert error(ours, exact) <= 2 * error(theirs, exact) + floor


def test_no_logits_of_the_batch(monkeypatch):
    seen = []
    plain_rows = op._rows
    monkeypatch.setattr(
        op, "_rows", lambda x, *a: seen.append(x.shape) or plain_rows(x, *a)
    )
    both(23)
    assert max(shape[0] for shape in seen) == 5 and len(seen) == 5


def test_upstream_gradient_scales():
    x, w, target = batch(7)
    (0.25 * linear_cross_entropy(x, w, target)).backward()
    (_, dx, dw), _ = both(7)
    torch.testing.assert_close(x.grad, 0.25 * dx)
    torch.testing.assert_close(w.grad, 0.25 * dw)


def test_without_gradients_the_same_value():
    x, w, target = batch(23)
    with torch.no_grad():
        alone = linear_cross_entropy(x, w, target)
    torch.testing.assert_close(alone, linear_cross_entropy(x, w, target).detach())


def test_autocast_casts_as_for_a_linear_layer():
    x, w, target = batch(9)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(x, w, target)
        wanted = plain(x, w, target)
    loss.backward()
    assert x.grad.dtype == w.grad.dtype == torch.float32
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)


def test_compiles_as_one_graph():
    x, w, target = batch(7)
    traced = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    traced(x, w, target).backward()
    (_, dx, dw), _ = both(7)
    torch.testing.assert_close(x.grad, dx)
    torch.testing.assert_close(w.grad, dw)


def test_opcheck():
    x, w, target = batch(7)
    torch.library.opcheck(op._with_gradients, (x, w, target))
    torch.library.opcheck(op._alone, (x.detach(), w.detach(), target))


@pytest.mark.parametrize(
    "spoil, words",
    (
        (lambda x, w, t: (x[:, :-1], w, t), "for weight"),
        (lambda x, w, t: (x, w, t[:-1]), "targets"),
        (lambda x, w, t: (x, w, t.int()), "int32"),
        (lambda x, w, t: (x.bfloat16(), w, t), "bfloat16"),
    ),
)
def test_what_does_not_fit_is_refused(spoil, words):
    with pytest.raises(ValueError, match=words):
        linear_cross_entropy(*spoil(*batch(7)))


def rows_of_both(x_nV, target_n, scale, gradient):
    """(loss, logits or their gradient) by torch and by the kernel."""
    from kernels.linear_cross_entropy import kernel

    kernel.BLOCK = 16
    ours, theirs = x_nV.clone(), x_nV.clone()
    by_torch = op._rows(theirs, target_n, scale, gradient)
    by_kernel = kernel.rows(ours, target_n, scale, gradient)
    return (by_torch, theirs), (by_kernel, ours)


@pytest.mark.parametrize("gradient", (True, False))
@pytest.mark.parametrize("V", (1, 15, 16, 53))
def test_the_kernel(interpret, V, gradient):
    stream = torch.Generator().manual_seed(V)
    for scale in (1e-4, 1.0, 100.0):
        x_nV = torch.randn(6, V, generator=stream) * scale
        target_n = torch.randint(0, V, (6,), generator=stream)
        wanted, found = interpret(rows_of_both, x_nV, target_n, 0.3, gradient)
        torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-6)
        assert gradient or torch.equal(found[1], x_nV)
