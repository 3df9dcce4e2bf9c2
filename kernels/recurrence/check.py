"""How far the kernels of the recurrence are from float64, and how far they may be.

The measure is ||out - ref|| for o, the last state and every gradient, ref the loop in
float64 on the same (rounded) inputs. The budget is twice the error of the torch form in
the inputs' own precision, plus a floor: kernels/attention/check.py. In 16 bits that form
has the operands of its products rounded, and sums in fp32.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from kernels.attention.check import FLOOR, Error, poisoned
from kernels.recurrence.chunked import chunks
from kernels.recurrence.op import recurrence
from kernels.recurrence.reference import loop

NAMES = ("o", "state", "dq", "dk", "dv", "dstate")
MATMULS = (torch.Tensor.__matmul__, torch.Tensor.matmul, torch.matmul)


class Case(NamedTuple):
    """One comparison. decay: mean of -g, None: without; document: tokens of packed
    documents on average; alike: keys are all but equal, and erase all that they find;
    size: tokens of a chunk, None: the default.
    """

    T: int
    H: int
    K: int
    V: int
    dtype: torch.dtype
    decay: float | None = None
    delta: bool = False
    document: int | None = None
    B: int = 1
    alike: bool = False
    size: int | None = None


class _Rounded(TorchFunctionMode):
    """Products take operands in a type; those that sum decays, one column, do not."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in MATMULS and args[1].shape[-1] > 1:
            args = tuple(x.to(self.dtype).to(x.dtype) for x in args)
        return func(*args, **(kwargs or {}))


def inputs(case: Case, device: str) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Fresh [q, k, v, state, then g, then e, c], where there are any, and starts."""
    B, T, H, K, V = case.B, case.T, case.H, case.K, case.V
    kind = {"device": device}
    q, k, e, near = torch.randn(4, B, T, H, K, **kind).unbind()
    v, state = torch.randn(B, T, H, V, **kind), torch.randn(B, H, K, V, **kind)
    if case.alike:
        k = k[:, :1] + 0.01 * k
    k = F.normalize(k, dim=-1)
    low = [q, k, v]
    leaves = [x.to(case.dtype) for x in low] + [state]
    if case.decay is not None:
        leaves.append(-case.decay * -torch.rand(B, T, H, **kind).clamp(1e-3).log())
    if case.delta:
        share = 1.0 if case.alike else torch.rand(B, T, H, 1, **kind)
        e = k if case.alike else F.normalize(k + 0.3 * e, dim=-1)
        c = share * F.normalize(e + 0.3 * near * (not case.alike), dim=-1)
        leaves += [e.to(case.dtype), c.to(case.dtype)]
    if case.document is None:
        return leaves, None
    begins_BT = torch.rand(B, T, **kind) < 1 / case.document
    t_T = torch.arange(T, **kind)
    return leaves, (t_T * begins_BT).cummax(dim=1).values.to(torch.int32)


def results(op, case: Case, leaves, starts, upstream) -> list[torch.Tensor]:
    """o, the last state, and the gradients of the leaves."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    q, k, v, state, *rest = leaves
    g = rest.pop(0) if case.decay is not None else None
    found = op(q, k, v, state, starts, g, tuple(rest) or None)
    upstream = [dx.to(x.dtype) for dx, x in zip(upstream, found)]
    grads = torch.autograd.grad(found, leaves, upstream, allow_unused=True)
    grads = [torch.zeros_like(x) if d is None else d for x, d in zip(leaves, grads)]
    return [*(x.detach() for x in found), *grads]


def errors(case: Case, device: str = "cpu", seed: int = 0) -> list[Error]:
    """The errors of o, the state and every gradient; the seed decides inputs."""
    torch.manual_seed(seed)
    leaves, starts = inputs(case, device)
    upstream = [torch.randn_like(leaves[2]), torch.randn_like(leaves[3])]
    names = [*NAMES, *["dg"] * (case.decay is not None), *["de", "dc"] * case.delta]
    its = case, leaves, starts, upstream
    truth = results(loop, case, [x.double() for x in leaves], starts, upstream)
    with _Rounded(case.dtype):
        plain = results(chunks, case, [x.float() for x in leaves], starts, upstream)
    with poisoned():
        ours = results(lambda *x: recurrence(*x, size=case.size), *its)
    return [
        _compare(name, *three, FLOOR[case.dtype])
        for name, *three in zip(names, ours, plain, truth)
    ]


def _compare(name: str, ours, plain, truth, floor: float) -> Error:
    error, rough = ((x.double() - truth).norm().item() for x in (ours, plain))
    return Error(name, error, 2 * rough + floor * truth.norm().item())


def cases() -> Iterator[Case]:
    """What a GPU is checked with."""
    widths = ((16, 16), (64, 64), (64, 65), (96, 40), (128, 128), (128, 129))
    for dtype, (K, V), decay, delta in product(
        FLOOR, widths, (None, 0.1), (False, True)
    ):
        its = {"K": K, "V": V, "dtype": dtype, "decay": decay, "delta": delta}
        yield Case(T=333, H=3, B=2, **its)
        yield Case(T=333, H=2, B=2, document=40, **its)
        if K == V == 64:
            for T in (1, 7, 64, 65, 2049):
                yield Case(T=T, H=2, **its)
    for dtype, decay in product(FLOOR, (1e-3, 1.0, 20.0)):
        for delta in (False, True):
            yield Case(500, 2, 64, 64, dtype, decay, delta, B=2)
    for dtype in FLOOR:
        yield Case(300, 2, 64, 64, dtype, None, True, alike=True)
