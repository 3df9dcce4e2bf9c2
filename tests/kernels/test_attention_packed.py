"""Attention on a fused projection equals attention on its parts, bit for bit; the
statistics alone equal those beside an output. Interpreted.
"""

import pytest
import torch

pytest.importorskip("triton")

from kernels.attention.fused import attention_fused, row_statistics  # noqa: E402
from kernels.attention.packed import attention_packed, parts  # noqa: E402
from kernels.attention.spec import AttentionSpec  # noqa: E402

# H, G, normaliser, band, window, documents, statistics, top
CASES = [
    (2, 2, "softmax", None, None, False, (), None),
    (4, 2, "softmax", 5, None, False, ("lse", "topk"), 3),
    (2, 1, "softpick", 5, 9, False, (), None),
    (2, 2, "softmax", None, None, True, ("entropy",), None),
]


def total(found, statistics) -> torch.Tensor:
    """A scalar that every output enters."""
    if not statistics:
        return found.sin().sum()
    return found[0].sin().sum() + sum(x.cos().sum() for x in found[1].values())


def both(H, G, normaliser, band, window, documents, statistics, top) -> list:
    """(value, dqkv, dalpha) by each way, poisoned."""
    from kernels.attention.check import poisoned

    torch.manual_seed(0)
    B, T, D = 2, 37, 16
    N = H + 2 * G
    qkv = torch.randn(B, T, N, D, requires_grad=True)
    alpha = torch.full((H,), 0.3, requires_grad=True) if band else None
    starts = None
    if documents:
        starts = (torch.arange(T, dtype=torch.int32) // 10 * 10).repeat(B, 1)
    spec = AttentionSpec(normaliser, None, window, alpha, band, starts, statistics, top)
    leaves, found = [qkv] + ([alpha] if band else []), []
    with poisoned():
        value = total(attention_packed(qkv, H, spec), statistics)
        found.append([value, *torch.autograd.grad(value, leaves)])
        value = total(attention_fused(*parts(qkv, H), spec), statistics)
        found.append([value, *torch.autograd.grad(value, leaves)])
    return [[x.detach() for x in way] for way in found]


@pytest.mark.parametrize("case", CASES)
def test_equal_to_its_parts(interpret, case):
    packed, apart = interpret(both, *case)
    assert all(map(torch.equal, packed, apart))


def alone(kind: str, normaliser: str, window: int | None) -> list:
    """(statistic, dq, dk) alone, and beside an output that nobody reads."""
    torch.manual_seed(0)
    q = torch.randn(2, 37, 4, 16, requires_grad=True)
    k, v = (torch.randn(2, 37, 2, 16, requires_grad=True) for _ in "kv")
    spec = AttentionSpec(normaliser, window=window, statistics=(kind,))
    spec = spec._replace(top=3 if kind == "topk" else None)
    found = []
    for rows in (row_statistics(q, k, spec), attention_fused(q, k, v, spec)[1]):
        gradients = torch.autograd.grad(rows[kind].cos().sum(), (q, k))
        found.append([rows[kind].detach(), *gradients])
    return found


@pytest.mark.parametrize(
    "case",
    [
        ("topk", "softmax", None),
        ("entropy", "softmax", 9),
        ("rms", "softmax", None),
        ("topk", "softpick", None),
    ],
)
def test_statistics_alone(interpret, case):
    mine, beside = interpret(alone, *case)
    assert all(map(torch.equal, mine, beside))


def traced() -> None:
    """The promises of the operator to torch; raises where one is broken."""
    torch.manual_seed(0)
    qkv = torch.randn(1, 9, 4, 16, requires_grad=True)
    alpha = torch.tensor([0.3, 0.1], requires_grad=True)

    def run(qkv, alpha):
        return attention_packed(qkv, 2, AttentionSpec("softpick", alpha=alpha, band=3))

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for function in (run, compiled):
        found = torch.autograd.grad(function(qkv, alpha).square().sum(), (qkv, alpha))
        assert found[0].shape == qkv.shape and found[1].shape == alpha.shape
    options = 2, "softmax", 3, 4, 0.2, "mass", 2
    torch.library.opcheck(
        torch.ops.kablate.attention_packed.default,
        (qkv.detach().requires_grad_(), alpha, None, *options),
    )
    q, k = (torch.randn(1, 9, 2, 16, requires_grad=True) for _ in "qk")
    torch.library.opcheck(
        torch.ops.kablate.attention.default,
        (q, k, None, None, None, "softmax", None, None, 0.2, "entropy", 0),
    )


def test_promises(interpret):
    interpret(traced)


def test_refusals():
    qkv = torch.zeros(1, 4, 6, 16)
    for heads in (3, 6, 0):
        with pytest.raises(ValueError, match="equally many"):
            attention_packed(qkv, heads, AttentionSpec())
    with pytest.raises(ValueError, match="at least one"):
        row_statistics(qkv, qkv, AttentionSpec())
    reciprocal = AttentionSpec(alpha=torch.ones(6), band=3, statistics=("lse",))
    with pytest.raises(ValueError, match="no transposed score"):
        row_statistics(qkv, qkv, reciprocal)
