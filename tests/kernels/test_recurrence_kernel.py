"""The kernels of the recurrence against the loop in float64; interpreted without a GPU."""

import pytest
import torch

pytest.importorskip("triton")

from kernels.recurrence import check  # noqa: E402
from kernels.recurrence.check import Case  # noqa: E402
from kernels.recurrence.op import recurrence  # noqa: E402

F32, F16 = torch.float32, torch.float16
CASES = {
    "one": Case(1, 1, 16, 16, F32, 0.1, True),
    "sum": Case(33, 1, 16, 16, F32),
    "decay": Case(36, 2, 20, 17, F32, 0.1, document=12, B=2),
    "delta": Case(36, 1, 16, 24, F32, None, True, document=9),
    "strong": Case(40, 1, 16, 16, F32, 3.0, True, size=32),
    "both": Case(70, 1, 24, 17, F32, 0.1, True, document=30, size=64),
    "alike": Case(64, 1, 16, 16, F32, None, True, alike=True, size=64),
    "half": Case(70, 1, 16, 16, F16, 0.1, True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_close_to_float64(interpret, case):
    errors = interpret(check.errors, case)
    assert not (bad := [error for error in errors if not error.ok]), bad


def bits(device: str = "cpu", T: int = 75, dtype=F32, K: int = 16, size=16) -> None:
    """What lies ahead, and what another document holds, changes no bit."""
    case = Case(T, 1, K, K, dtype, 0.5, True, document=20)
    leaves, starts = check.inputs(case, device)
    first = int(starts[0, -1])
    assert first > 0

    def run(leaves, starts):
        q, k, v, state, g, e, c = leaves
        return recurrence(q, k, v, state, starts, g, (e, c), size)

    o, last = run(leaves, starts)
    q, *rest = leaves
    state, cut = rest.pop(2), T // 2
    for spared, those in (("earlier", slice(cut, None)), ("later", slice(0, first))):
        other = [x.clone() for x in rest]
        for x in other:
            x[:, those] *= 3
        before = run([q, *other[:2], state, *other[2:]], starts)
        if spared == "earlier":
            assert torch.equal(before[0][:, :cut], o[:, :cut])
            assert not torch.equal(before[0], o)
        else:
            other.insert(2, 2 * state)
            after = run([q, *other], starts)
            assert torch.equal(after[0][:, first:], o[:, first:])
            assert torch.equal(after[1], last)


def test_nothing_ahead_or_foreign_in_a_single_bit(interpret):
    interpret(bits)


def checked() -> None:
    """The operator as torch.library sees it; run interpreted."""
    case = Case(5, 1, 16, 16, F32, 0.1, True, document=3)
    leaves, starts = check.inputs(case, "cpu")
    q, k, v, state, g, e, c = (x.requires_grad_() for x in leaves)
    given = q, k, v, state, starts, g, e, c, 16
    torch.library.opcheck(torch.ops.kablate.recurrence.default, given)
    few = q, k, v, state, None, None, None, None, 16
    torch.library.opcheck(torch.ops.kablate.recurrence.default, few)


def test_operator(interpret):
    interpret(checked)


def compiled() -> float:
    """The gradient of one graph less that of the operator; run interpreted."""
    case = Case(20, 1, 16, 17, F32, 0.1, True)
    leaves, _ = check.inputs(case, "cpu")

    def gradient(op):
        q, k, v, state, g, e, c = (x.detach().requires_grad_() for x in leaves)
        o, last = op(q, k, v, state, None, g, (e, c))
        return torch.autograd.grad(o.sin().sum() + last.sum(), g)[0]

    graph = torch.compile(recurrence, fullgraph=True, backend="aot_eager")
    return (gradient(graph) - gradient(recurrence)).abs().max().item()


def test_one_graph(interpret):
    assert interpret(compiled) == 0.0


@pytest.mark.parametrize(
    "change, error, says",
    [
        ({"v": torch.zeros(1, 5, 2, 16)}, ValueError, r"v is \(1, 5, 2, 16\)"),
        ({"size": 48}, ValueError, "size 48"),
        ({"q": torch.zeros(1, 4, 2, 16).half()}, NotImplementedError, "float16"),
        ({"g": torch.zeros(1, 4, 2, 16)}, NotImplementedError, "per channel"),
        ({}, NotImplementedError, "TRITON_INTERPRET"),
    ],
    ids=["shape", "size", "types", "channels", "cpu"],
)
def test_refusals_say_why(change, error, says):
    x = torch.zeros(1, 4, 2, 16)
    its = {"q": x, "v": x, "g": None, "size": None, **change}
    with pytest.raises(error, match=says):
        recurrence(
            its["q"],
            x,
            its["v"],
            torch.zeros(1, 2, 16, 16),
            log_decay=its["g"],
            size=its["size"],
        )


gpu = pytest.mark.gpu
there = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
@there
@pytest.mark.parametrize("case", list(check.cases()), ids=str)
def test_shipped_configurations(case):
    errors = check.errors(case, "cuda")
    assert not (bad := [error for error in errors if not error.ok]), bad


@gpu
@there
@pytest.mark.parametrize("dtype", [F32, torch.bfloat16], ids=str)
def test_no_bit_of_another_on_a_gpu(dtype):
    bits("cuda", 500, dtype, 64, None)


@gpu
@there
@pytest.mark.parametrize("delta", [False, True])
def test_two_runs_agree_bit_for_bit(delta):
    case = Case(1500, 12, 64, 65, torch.bfloat16, 0.1, delta, document=300, B=4)
    leaves, starts = check.inputs(case, "cuda")
    upstream = [torch.randn_like(leaves[2]), torch.randn_like(leaves[3])]
    its = recurrence, case, leaves, starts, upstream
    for a, b in zip(check.results(*its), check.results(*its)):
        assert torch.equal(a, b)
