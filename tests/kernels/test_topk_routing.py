"""Head-mean routing against the plain formula in float64; interpreted."""

import pytest
import torch

pytest.importorskip("triton")

from kernels.attention import AttentionSpec, attention_fused  # noqa: E402
from kernels.attention.check import Case  # noqa: E402
from kernels.topk_routing import check, routed_mix, topk_routing  # noqa: E402

F32, F16 = torch.float32, torch.float16

LSE = AttentionSpec(statistics=("lse",))

# T, H, G, D, dtype, normaliser
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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_close_to_float64(interpret, case):
    errors = interpret(check.errors, case)
    assert all(error.ok for error in errors), errors


def equal_keys() -> tuple[torch.Tensor, torch.Tensor]:
    """The routing where every key is the same; run interpreted."""
    q, k = torch.randn(1, 40, 2, 16), torch.ones(1, 40, 2, 16)
    _, rows = attention_fused(q, k, k, LSE)
    return topk_routing(q, k, rows["lse"], 4, LSE)


def test_of_equals_the_earlier(interpret):
    index, weight = interpret(equal_keys)
    assert (index[0, 3:] == torch.arange(4)).all()
    several = 1 / torch.arange(4, 41)[:, None].expand(37, 4)
    torch.testing.assert_close(weight[0, 3:], several)
    assert index[0, 1].tolist() == [0, 1, 0, 0]


def checked() -> None:
    """The operators as torch.library sees them; run interpreted."""
    q, k, v = torch.randn(3, 1, 9, 2, 16).unbind(0)
    _, rows = attention_fused(q, k, v, LSE)
    given = (q, k, rows["lse"], None, None, "softmax", None, None, 0.25, 3)
    torch.library.opcheck(torch.ops.kablate.topk_routing.default, given)
    places = topk_routing(q, k, rows["lse"], 3, LSE)
    m = torch.randn(1, 9, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.kablate.routed_mix.default, (m, *places))


def test_operators(interpret):
    interpret(checked)


def views() -> list[torch.Tensor]:
    """A mix of columns of wider rows, of a transposed tensor, and of their copies."""
    m = torch.randn(2, 9, 20)
    index, weight = torch.randint(0, 9, (2, 9, 3)).int(), torch.rand(2, 9, 3)
    parts = m[..., 5:13], torch.randn(9, 2, 8).transpose(0, 1)
    return [
        routed_mix(x, index, weight)
        for part in parts
        for x in (part, part.clone(memory_format=torch.contiguous_format))
    ]


def test_what_is_mixed_may_be_part_of_longer_rows(interpret):
    columns, copied, transposed, straight = interpret(views)
    assert torch.equal(columns, copied) and torch.equal(transposed, straight)


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
    top, spec = options.pop("top", 3), AttentionSpec(**options)
    with pytest.raises(error, match=says):
        topk_routing(q, q, torch.zeros(1, 2, 4), top, spec)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", list(check.cases()), ids=str)
def test_shipped_configurations(case):
    errors = check.errors(case, "cuda")
    assert all(error.ok for error in errors), errors
