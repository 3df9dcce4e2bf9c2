"""The step of AdamW and AdamWSPAM: the Triton kernel is the reference, to rounding.

The kernel runs on a GPU where there is one; test_in_the_interpreter runs it in
Triton's interpreter on the CPU, in a process of its own.
"""

import os
import subprocess
import sys

import pytest
import torch

from kernels.adamw import on, reference
from tests.conftest import ROOT

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FAST = INTERPRETED or DEVICE.type == "cuda"

SCALARS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def tensors(seed):
    """Parameters of ragged sizes, gradients with spikes, moments with zeros."""
    stream = torch.Generator().manual_seed(seed)
    shapes = [(70, 9), (1,), (129,), (33, 4)]
    p, g, m, v = (
        [torch.randn(shape, generator=stream) for shape in shapes] for _ in range(4)
    )
    for gradient, second in zip(g, v):
        gradient[torch.rand(gradient.shape, generator=stream) < 0.1] *= 1e4
        second.square_()
        second[torch.rand(second.shape, generator=stream) < 0.2] = 0.0
    return p, g, m, v


@pytest.mark.skipif(not FAST, reason="needs a GPU or the interpreter")
@pytest.mark.parametrize("theta", [0.0, 5.0])
@pytest.mark.parametrize("keep", [1.0, 0.9])
def test_the_kernel_is_the_reference(theta, keep):
    if INTERPRETED:
        from kernels.adamw import kernel

        kernel.BLOCK = 256
    else:
        kernel = on(DEVICE)
    ours = [[t.to(DEVICE) for t in row] for row in tensors(1)]
    theirs = tensors(1)
    for step in range(3):
        scalars = {"theta": theta, "keep": keep, "size": 0.01 + step, "root": 0.5}
        kernel.step(*ours, **SCALARS, **scalars)
        reference.step(*theirs, **SCALARS, **scalars)
    for name, mine, plain in zip("pgmv", ours, theirs):
        for a, b in zip(mine, plain):
            assert torch.allclose(a.cpu(), b, rtol=2e-6, atol=1e-6), name
    assert all(torch.equal(a.cpu(), b) for a, b in zip(ours[1], tensors(1)[1]))


def extras(p, low, masked, copied):
    """Gradients as a step finds them, its factor, masks and copies."""
    stream = torch.Generator().manual_seed(7)
    dtype = torch.bfloat16 if low else torch.float32
    grads = [torch.randn(w.shape, generator=stream).to(dtype) for w in p]
    found = {"scale": torch.tensor(0.3), "masks": None, "copies": None}
    if masked:
        found["masks"] = [torch.rand(w.shape, generator=stream) < 0.4 for w in p]
    if copied:
        found["copies"] = [torch.empty(w.shape, dtype=torch.bfloat16) for w in p]
    return grads, found


def there(value):
    """The same value, or list of tensors, on the device."""
    if isinstance(value, list):
        return [tensor.to(DEVICE) for tensor in value]
    return value.to(DEVICE) if torch.is_tensor(value) else value


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("copied", [False, True])
def test_what_rides_along(low, masked, copied):
    """The step of gradients scaled and masked beforehand; copies are rounded."""
    backend = on(DEVICE)
    if INTERPRETED:
        from kernels.adamw import kernel as backend

        backend.BLOCK = 256
    p, _, m, v = tensors(1)
    grads, extra = extras(p, low, masked, copied)
    by_hand = [0.3 * g.float() for g in grads]
    if masked:
        by_hand = [torch.where(k, 0.0, g) for g, k in zip(by_hand, extra["masks"])]
    wanted = [[t.clone() for t in row] for row in (p, m, v)]
    rates = {"theta": 5.0, "keep": 0.9, "size": 0.01, "root": 0.5}
    reference.step(wanted[0], by_hand, *wanted[1:], **SCALARS, **rates)
    mine = [there(row) for row in (p, grads, m, v)]
    extra = {name: there(value) for name, value in extra.items()}
    square = backend.square_sum(mine[1], extra["masks"])
    backend.step(*mine, **SCALARS, **rates, **extra)
    total = sum((g.double() / 0.3).square().sum() for g in by_hand).item()
    assert square.item() == pytest.approx(total, rel=1e-5)
    for found, right in zip((mine[0], *mine[2:]), wanted):
        for a, b in zip(found, right):
            assert torch.allclose(a.cpu(), b, rtol=2e-6, atol=1e-6)
    for copy, weight in zip(extra["copies"] or [], mine[0]):
        if INTERPRETED:  # which cuts fp32 off where a GPU rounds
            assert torch.allclose(copy.float(), weight, rtol=2**-7)
        else:
            assert torch.equal(copy, weight.to(torch.bfloat16))
    assert all(torch.equal(a.cpu(), b) for a, b in zip(mine[1], grads))


@pytest.mark.skipif(not FAST, reason="needs a GPU or the interpreter")
def test_other_types_are_refused():
    if INTERPRETED:
        from kernels.adamw import kernel
    else:
        kernel = on(DEVICE)
    row = [torch.ones(4, dtype=torch.float64, device=DEVICE)]
    rates = {"theta": 0.0, "keep": 1.0, "size": 0.1, "root": 1.0}
    with pytest.raises(TypeError, match="takes torch.float32 here, not torch.float64"):
        kernel.step(row, row, row, row, **SCALARS, **rates)


@pytest.mark.skipif(FAST, reason="these are the kernel's own tests")
def test_in_the_interpreter():
    """This file again, with Triton's interpreter in place of a GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
