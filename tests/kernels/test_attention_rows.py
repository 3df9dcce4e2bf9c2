"""What the fused attention knows of a row: statistics, and where its document starts.

Against the plain formula in float64, interpreted (`interpret`, conftest.py).
"""

import pytest
import torch

pytest.importorskip("triton")

from kernels.attention import (  # noqa: E402
    AttentionSpec,
    attention_fused,
    check,
    visible,
)
from kernels.attention.fused import document_starts  # noqa: E402

F32, F16 = torch.float32, torch.float16
SOFT, PICK = "softmax", "softpick"


def case(T, H, G, D, dtype=F32, *rest, **more) -> check.Case:
    return check.Case(T, H, G, D, dtype, *rest, **more)


CASES = [
    case(1, 2, 1, 16, band=5, statistic="topk", top=3),
    case(33, 2, 1, 24, statistic="topk", top=8, layout="head_first", B=2),
    case(33, 2, 1, 16, F16, statistic="topk", top=1, layout="contiguous"),
    case(40, 1, 1, 16, band=5, window=9, statistic="topk", top=16),
    case(64, 2, 1, 16, F32, PICK, statistic="topk", top=8),
    case(33, 2, 2, 24, F16, PICK, band=5, statistic="max", B=2),
    case(33, 2, 1, 16, statistic="max"),
    case(33, 2, 1, 16, statistic="entropy", window=7),
    case(64, 1, 1, 24, F16, statistic="entropy", band=5),
    case(20, 1, 1, 16, statistic="entropy", size=1e2),
    case(33, 2, 1, 16, statistic="rms"),
    case(20, 1, 1, 16, F32, PICK, statistic="max", size=1e-4),
    case(20, 1, 1, 16, statistic="rms", size=1e4),
    case(70, 2, 1, 16, document=10, B=2),
    case(70, 1, 1, 16, F16, PICK, document=20, B=2),
    case(150, 1, 1, 16, document=60, B=2, band=20),
    case(70, 1, 1, 16, document=7, B=2, window=5, layout="head_first"),
    case(33, 2, 1, 16, document=8, statistic="rms"),
    case(70, 1, 1, 16, F16, document=20, statistic="entropy", band=20),
    case(70, 2, 1, 16, document=20, statistic="topk", top=4, B=2),
]


def name(value: check.Case) -> str:
    told = (f"{k}={v}" for k, v in value._asdict().items() if v not in (None, 1))
    return " ".join(told).replace("torch.", "")


@pytest.mark.parametrize("case", CASES, ids=name)
def test_close_to_float64(interpret, case):
    errors = interpret(check.errors, case)
    assert all(error.ok for error in errors), errors


def only_the_statistic(name: str) -> tuple[torch.Tensor, ...]:
    """Gradients of a statistic where nothing asks for o, twice; run interpreted."""
    torch.manual_seed(0)
    qkv = torch.randn(1, 40, 3, 2, 16, requires_grad=True)
    found = []
    for _ in range(2):
        top = 3 if name == "topk" else None
        spec = AttentionSpec(statistics=("lse", name), top=top)
        _, rows = attention_fused(*qkv.unbind(2), spec)
        loss = rows[name].square().sum() + rows["lse"].sin().sum()
        found.append(torch.autograd.grad(loss, qkv)[0])
    q, k, _ = (x.double() for x in qkv.unbind(2))
    s = torch.einsum("bthd,bshd->bhts", q, k) / 4
    mask = visible(40, 40, None, q.device)
    s = s.masked_fill(~mask, -torch.inf)
    stat = check.statistic(s.softmax(-1), mask, name, 3)
    loss = stat.square().sum() + s.logsumexp(-1).sin().sum()
    return *found, torch.autograd.grad(loss, qkv)[0]


@pytest.mark.parametrize("name", ["topk", "entropy"])
def test_statistic_alone_and_twice(interpret, name):
    once, again, plain = interpret(only_the_statistic, name)
    assert torch.equal(once, again)
    torch.testing.assert_close(once, plain, rtol=1e-4, atol=1e-6)


def documents_apart() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """o and gradients of two documents in one row, and of each by itself; run
    interpreted.
    """
    torch.manual_seed(0)
    qkv = torch.randn(1, 50, 3, 2, 16, requires_grad=True)
    starts = document_starts(torch.tensor([0, 17, 50], dtype=torch.int32), 50)
    packed = attention_fused(*qkv.unbind(2), AttentionSpec(PICK, starts=starts))
    parts = [
        attention_fused(*qkv[:, part].unbind(2), AttentionSpec(PICK))
        for part in (slice(0, 17), slice(17, 50))
    ]
    apart = torch.cat(parts, dim=1)
    return tuple(
        [o.detach(), *torch.autograd.grad(o.sin().sum(), qkv)] for o in (packed, apart)
    )


def test_documents_are_apart(interpret):
    torch.testing.assert_close(*interpret(documents_apart), rtol=1e-4, atol=1e-5)


def test_document_starts():
    given = torch.tensor([0, 2, 3, 6], dtype=torch.int32)
    assert document_starts(given, 6).tolist() == [[0, 0, 2, 3, 3, 3]]


Q = torch.zeros(2, 4, 6, 16)
STARTS = torch.zeros(2, 4, dtype=torch.int32)


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"statistics": ("max", "rms")}, NotImplementedError, "one of them"),
        ({"statistics": ("topk",)}, ValueError, "belong together"),
        ({"statistics": ("max",), "top": 3}, ValueError, "belong together"),
        ({"statistics": ("topk",), "top": 17}, NotImplementedError, "1 to 16"),
        ({"statistics": ("rms",), "normaliser": PICK}, ValueError, "sum to 0"),
        ({"starts": STARTS.long()}, ValueError, "int32"),
        ({"starts": STARTS[:1]}, ValueError, "one per query"),
        ({"starts": STARTS.T.contiguous().T}, ValueError, "contiguous"),
    ],
)
def test_refusals_say_why(options, error, says):
    with pytest.raises(error, match=says):
        attention_fused(Q, Q, Q, AttentionSpec(**options))
