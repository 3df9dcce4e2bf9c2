"""The fused attention against the plain formula in float64.

Without a GPU the kernels are interpreted (fp32 and fp16; its bf16 products are
wrong). On a GPU `make gpu-test` runs every shipped configuration.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from kernels.attention import AttentionSpec, check, launch  # noqa: E402
from kernels.attention import attention_fused  # noqa: E402
from kernels.attention.configs import Tile  # noqa: E402
from kernels.attention.reference import attention  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

F32, F16 = torch.float32, torch.float16
SOFT, PICK, UNSAFE = "softmax", "softpick", "softpick_unsafe"

# T, H, G, D, dtype, normaliser, band, window, layout, size
CASES = [
    (1, 2, 1, 16, F32, SOFT, 3),
    (1, 1, 1, 16, F32, PICK),
    (7, 2, 2, 16, F32, PICK, 2, None, "head_first"),
    (16, 2, 1, 24, F32, SOFT, None, None, "contiguous"),
    (33, 2, 1, 24, F32, SOFT, None, 9, "head_first"),
    (33, 1, 1, 32, F32, SOFT, 0, None, "contiguous"),
    (33, 2, 1, 16, F32, SOFT, 5),
    (33, 2, 2, 16, F32, PICK),
    (33, 2, 1, 24, F32, PICK, 5, 9),
    (33, 1, 1, 16, F32, UNSAFE, 40, 20),
    (33, 1, 1, 16, F32, UNSAFE, None, 3),
    (80, 1, 1, 16, F32, PICK, 20),
    (60, 2, 2, 64, F32, PICK, 8, 1),
    (60, 4, 4, 64, F16, UNSAFE, None, 1),
    (33, 2, 1, 16, F16, SOFT, None, 9),
    (33, 1, 1, 24, F16, SOFT, 5, None, "head_first"),
    (33, 2, 1, 16, F16, PICK, 5),
    (33, 1, 1, 16, F16, UNSAFE),
    (128, 2, 1, 16, F32, SOFT),
    (64, 2, 1, 16, F16, PICK),
    (128, 1, 1, 16, F16, PICK, 20),
    (20, 1, 1, 16, F32, SOFT, 5, None, "fused", 1e4),
    (20, 1, 1, 16, F32, PICK, 5, None, "fused", 1e-4),
    (20, 1, 1, 16, F32, PICK, None, None, "fused", 1e4),
    (60, 4, 4, 16, F32, SOFT, None, None, "fused", 1e2, 4),
    (60, 4, 4, 64, F32, PICK, None, None, "fused", 1e2),
    (20, 1, 1, 16, F16, PICK, 5, None, "fused", 1e-2),
    (20, 1, 1, 16, F16, SOFT, None, None, "fused", 1e2),
]


# Run where triton interprets: each assertion is one promise of the operator.
PROMISES = """
import torch
from kernels.attention import AttentionSpec, attention_fused

torch.manual_seed(0)
qkv = torch.randn(1, 9, 3, 2, 16, requires_grad=True)
alpha = torch.tensor([0.3, -0.2], requires_grad=True)

def reciprocal(qkv, alpha):
    q, k, v = qkv.unbind(2)
    return attention_fused(q, k, v, AttentionSpec("softpick", alpha=alpha, band=3))

def run(function):
    out = function(qkv, alpha)
    return out, *torch.autograd.grad(out.square().sum(), (qkv, alpha))

eager = run(reciprocal)
assert all(map(torch.equal, eager, run(reciprocal))), "two runs differ"
compiled = torch.compile(reciprocal, fullgraph=True, backend="aot_eager")
assert all(map(torch.equal, eager, run(compiled))), "compiling changes the result"
torch.library.opcheck(
    torch.ops.kablate.attention.default,
    (*(x.detach().requires_grad_() for x in qkv.unbind(2)), alpha, None)
    + ("softmax", 3, 4, 0.2, "mass", 2),
)
q, k, v = qkv.unbind(2)
_, found = attention_fused(q, k, v, AttentionSpec(statistics=("lse",)))
s = torch.einsum("bthd,bshd->bhts", q, k) / 4
lse = s.masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf).logsumexp(-1)
torch.testing.assert_close(found["lse"], lse, rtol=2e-6, atol=2e-6)
grads = [torch.autograd.grad(x.sin().sum(), qkv)[0] for x in (found["lse"], lse)]
torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)
"""


def name(case: tuple) -> str:
    return "-".join(str(value).removeprefix("torch.") for value in case)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_close_to_float64(interpret, case):
    errors = interpret(check.errors, check.Case(*case))
    assert all(error.ok for error in errors), errors


def described(case: tuple) -> list[check.Error]:
    """Errors where tiles come through descriptors, which bring what lies behind T."""
    with pytest.MonkeyPatch.context() as patch:
        described = Tile(32, 16, 4, 1, descriptors=True)
        patch.setattr(launch, "tile", lambda *_, **__: described)
        return check.errors(check.Case(*case))


@pytest.mark.parametrize("layout", check.LAYOUTS)
@pytest.mark.parametrize("normaliser", (SOFT, PICK))
def test_descriptors_at_a_ragged_end(interpret, normaliser, layout):
    case = (81, 4, 2, 16, F16, normaliser, None, None, layout, 1.0, 2)
    errors = interpret(described, case)
    assert all(error.ok for error in errors), errors


def dense() -> list[bool]:
    """Whether gradients stay when a hook makes what is saved dense."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 80, 1, 16).half().requires_grad_() for _ in range(3))

    def gradients():
        o = attention_fused(q, k, v, AttentionSpec(PICK))
        return torch.autograd.grad(o.float().sin().sum(), (q, k, v))

    kept = gradients()
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda x: x):
        return [torch.equal(*pair) for pair in zip(kept, gradients())]


def test_hooks_on_saved_tensors(interpret):
    assert all(interpret(dense))


def small_scores() -> list[float]:
    """The relative errors of softpick's o, dq, dk and dv where scores are near 1e-5."""
    case = check.Case(80, 1, 1, 16, F16, PICK, size=4e-3)
    torch.manual_seed(0)
    *qkv, do, _ = check.inputs(case, "cpu")
    qkv = [x.requires_grad_() for x in qkv]
    wide = [x.detach().double().requires_grad_() for x in qkv]
    spec = AttentionSpec(PICK)
    results = attention_fused(*qkv, spec), attention(*wide, spec)[0]
    pairs = zip(
        (results[0], *torch.autograd.grad(results[0], qkv, do)),
        (results[1], *torch.autograd.grad(results[1], wide, do.double())),
    )
    return [((x.double() - ref).norm() / ref.norm()).item() for x, ref in pairs]


def test_softpick_keeps_small_scores(interpret):
    """Where the plain formula has no digit left in fp16, so that no budget tells."""
    errors = interpret(small_scores)
    assert all(error < 2e-3 for error in errors), errors


def scaled(scale: float | None, size: float) -> list[torch.Tensor]:
    """o, lse and gradients at a scale, of queries times size; run interpreted."""
    torch.manual_seed(0)
    qkv = torch.randn(1, 20, 6, 16, requires_grad=True)
    alpha = torch.tensor([0.3, -0.2], requires_grad=True)
    spec = AttentionSpec(SOFT, scale, alpha=alpha, band=3, statistics=("lse",))
    q, k, v = qkv.split(2, dim=2)
    o, rows = attention_fused(size * q, k, v, spec)
    loss = o.sin().sum() + rows["lse"].cos().sum()
    return [o.detach(), loss.detach(), *torch.autograd.grad(loss, (qkv, alpha))]


def test_a_scale_is_one_of_the_queries(interpret):
    pairs = zip(interpret(scaled, 0.75, 1.0), interpret(scaled, None, 3.0))
    for mine, wanted in pairs:
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


def test_promises():
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROMISES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


Q, K = torch.zeros(2, 4, 6, 16), torch.zeros(2, 4, 3, 16)


@pytest.mark.parametrize(
    "q, k, options, error, says",
    [
        (Q, K[:1], {}, ValueError, "batch, positions"),
        (Q[:, :, :5], K, {}, ValueError, "divide"),
        (Q[:, :0], K[:, :0], {}, ValueError, "nothing"),
        (Q[..., :12], K[..., :12], {}, NotImplementedError, "multiples of 8"),
        (Q.half(), K, {}, NotImplementedError, "dtypes"),
        (Q, K.mT.contiguous().mT, {}, NotImplementedError, "contiguous"),
        (Q, K, {"band": 3}, ValueError, "both or neither"),
        (Q, K, {"band": -1, "alpha": torch.ones(6)}, ValueError, "band -1"),
        (Q, K, {"band": 3, "alpha": torch.ones(3)}, ValueError, "one per head"),
        (Q, K, {"window": 0}, ValueError, "window 0"),
        (Q, K, {"scale": 0.0}, ValueError, "scale"),
        (Q, K, {"normaliser": "sparsemax"}, ValueError, "softpick_unsafe"),
        (Q, K, {"statistics": ("median",)}, ValueError, "lse"),
        (Q, K, {}, NotImplementedError, "TRITON_INTERPRET"),
    ],
)
def test_refusals_say_why(q, k, options, error, says):
    assert not launch.INTERPRETED
    with pytest.raises(error, match=says):
        attention_fused(q, k, k, AttentionSpec(**options))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", list(check.cases()), ids=name)
def test_shipped_configurations(case):
    errors = check.errors(case, "cuda")
    assert all(error.ok for error in errors), errors
