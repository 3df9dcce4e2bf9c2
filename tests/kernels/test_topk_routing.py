"""Head-mean routing against the plain formula in float64; interpreted."""

from typing import NamedTuple

import pytest
import torch

pytest.importorskip("triton")

from kernels.attention import attention, attention_fused  # noqa: E402
from kernels.attention.check import Case, inputs, packed, poisoned  # noqa: E402
from kernels.topk_routing import (  # noqa: E402
    routed,
    routed_mean,
    routed_mix,
    topk_routing,
)

F32, F16 = torch.float32, torch.float16

# T, H, G, D, dtype, normaliser, band, window, layout, size, B, -, top, document
CASES = [
    Case(1, 2, 1, 16, F32, top=3),
    Case(33, 3, 1, 24, F32, top=8, B=2),
    Case(70, 2, 2, 16, F32, band=5, top=8, layout="head_first"),
    Case(50, 2, 1, 16, F32, window=9, top=4, layout="contiguous", B=2),
    Case(50, 2, 1, 16, F32, "softpick", band=20, window=30, top=16),
    Case(150, 1, 1, 16, F32, band=70, top=1),
    Case(50, 2, 2, 16, F16, top=8),
    Case(70, 2, 1, 16, F32, document=12, top=8, B=2),
    Case(5, 2, 1, 16, F32, top=8),
]


class Found(NamedTuple):
    """Ours and what is right: places, weights, mix, gradient of what is mixed."""

    ours: tuple[torch.Tensor, ...]
    truth: tuple[torch.Tensor, ...]


def both(case: Case) -> Found:
    torch.manual_seed(1)
    q, k, v, _, alpha = inputs(case, "cpu")
    starts = packed(case, "cpu")
    m = torch.randn(case.B, case.T, 24).to(case.dtype)
    dr = torch.randn(m.shape).to(case.dtype)
    if case.band is None:
        alpha = None
    options = {"normaliser": case.normaliser, "window": case.window, "starts": starts}
    options |= {"alpha": alpha, "band": case.band}
    with poisoned():
        _, rows = attention_fused(q, k, v, statistics=("lse",), **options)
        index, weight = topk_routing(q, k, rows["lse"], case.top, **options)
        m_ = m.clone().requires_grad_()
        r = routed_mix(m_, index, weight)
        (dm,) = torch.autograd.grad(r, m_, dr)
    shape = case.band or 0, case.normaliser, case.window, starts
    wide = (None if x is None else x.double() for x in (q, k, v, alpha))
    right = routed(attention(*wide, *shape)[1], case.top)
    m_ = m.double().requires_grad_()
    mixed = routed_mean(m_, *right)
    (dm_,) = torch.autograd.grad(mixed, m_, dr.double())
    return Found((index, weight, r.detach(), dm), (*right, mixed.detach(), dm_))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_close_to_float64(interpret, case):
    ours, truth = interpret(both, case)
    index, weight, r, dm = ours
    assert index.dtype == torch.int32 and weight.dtype == F32
    torch.testing.assert_close(index.long(), truth[0], rtol=0, atol=0)
    torch.testing.assert_close(weight.double(), truth[1], rtol=1e-5, atol=1e-6)
    rounding = {"rtol": 1e-5, "atol": 1e-5} if case.dtype == F32 else {}
    rounding = rounding or {"rtol": 2e-3, "atol": 2e-3}
    torch.testing.assert_close(r.double(), truth[2], **rounding)
    torch.testing.assert_close(dm.double(), truth[3], **rounding)


def equal_keys() -> tuple[torch.Tensor, torch.Tensor]:
    """The routing where every key is the same; run interpreted."""
    q, k = torch.randn(1, 40, 2, 16), torch.ones(1, 40, 2, 16)
    _, rows = attention_fused(q, k, k, normaliser="softmax", statistics=("lse",))
    return topk_routing(q, k, rows["lse"], 4, normaliser="softmax")


def test_of_equals_the_earlier(interpret):
    index, weight = interpret(equal_keys)
    assert (index[0, 3:] == torch.arange(4)).all()
    several = 1 / torch.arange(4, 41)[:, None].expand(37, 4)
    torch.testing.assert_close(weight[0, 3:], several)
    assert index[0, 1].tolist() == [0, 1, 0, 0]


def checked() -> None:
    """The operators as torch.library sees them; run interpreted."""
    q, k, v = torch.randn(3, 1, 9, 2, 16).unbind(0)
    _, rows = attention_fused(q, k, v, normaliser="softmax", statistics=("lse",))
    given = (q, k, rows["lse"], None, None, "softmax", None, None, 0.25, 3)
    torch.library.opcheck(torch.ops.kablate.topk_routing.default, given)
    places = topk_routing(q, k, rows["lse"], 3, normaliser="softmax")
    m = torch.randn(1, 9, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.kablate.routed_mix.default, (m, *places))


def test_operators(interpret):
    interpret(checked)


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"top": 17}, NotImplementedError, "keep 1 to 16"),
        ({"top": 0}, NotImplementedError, "keep 1 to 16"),
        ({"normaliser": "sparsemax"}, ValueError, "one of"),
        ({"band": 3}, ValueError, "both or neither"),
        ({}, NotImplementedError, "TRITON_INTERPRET"),
    ],
)
def test_refusals_say_why(options, error, says):
    q = torch.zeros(1, 4, 2, 16)
    options = {"top": 3, "normaliser": "softmax", **options}
    with pytest.raises(error, match=says):
        topk_routing(q, q, torch.zeros(1, 2, 4), options.pop("top"), **options)
