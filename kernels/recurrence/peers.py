"""The gated delta rule and its kin by flash-linear-attention, as far as it is installed,
in the terms of this folder: to be timed and measured beside our kernels, by none of which
it is called.

Legend: B batch, T tokens, H heads, K key width, V value width; beta in (0, 1).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product

import torch
import torch.nn.functional as F

from kernels.attention.check import FLOOR, Error
from kernels.recurrence.check import Case
from kernels.recurrence.op import recurrence
from kernels.recurrence.reference import loop

Rule = Callable[..., torch.Tensor]
"""o_BTHV of q, k, v, g_BTH (None: no decay) and beta_BTH (None: nothing is erased)."""


def by(op: Callable) -> Rule:
    """The delta rule by an operator of this folder: e = k, c = β k, v scaled by β. What
    is not a kernel computes in fp32 at least.
    """

    def run(q, k, v, g, beta):
        wide, kind = torch.promote_types(q.dtype, torch.float32), q.dtype
        if op is not recurrence:
            q, k, v = (x.to(wide) for x in (q, k, v))
        (B, _, H, K), V = q.shape, v.shape[3]
        state, erase = q.new_zeros(B, H, K, V, dtype=wide), None
        if beta is not None:
            share = beta[..., None].to(q.dtype)
            v, erase = share * v, (k, share * k)
        return op(q, k, v, state, None, g, erase)[0].to(kind)

    return run


def fla() -> Rule:
    """flash-linear-attention's chunk kernels. ModuleNotFoundError without it."""
    ops = import_module("fla.ops")
    chunk_delta_rule = ops.chunk_delta_rule
    chunk_gated_delta_rule = ops.chunk_gated_delta_rule
    chunk_simple_gla = ops.chunk_simple_gla

    def run(q, k, v, g, beta):
        if beta is None:
            return chunk_simple_gla(q, k, v, g=g, scale=1.0)[0]
        share = beta.to(q.dtype)
        if g is None:
            return chunk_delta_rule(q, k, v, beta=share, scale=1.0)[0]
        return chunk_gated_delta_rule(q, k, v, g=g, beta=share, scale=1.0)[0]

    return run


def installed() -> bool:
    """Whether flash-linear-attention is there."""
    return find_spec("fla") is not None


def leaves(case: Case, device: str) -> list[torch.Tensor]:
    """Fresh q, k of length 1, v, then g, then beta, where the case has them."""
    shape, kind = (case.B, case.T, case.H), {"device": device}
    q, k = torch.randn(2, *shape, case.K, **kind).unbind()
    v = torch.randn(*shape, case.V, **kind)
    low = [q * case.K**-0.5, F.normalize(k, dim=-1), v]
    found = [x.to(case.dtype) for x in low]
    if case.decay is not None:
        found.append(-case.decay * torch.rand(shape, **kind))
    return found + [torch.rand(shape, **kind)] * case.delta


def errors(case: Case, device: str = "cuda", seed: int = 0) -> list[Error]:
    """Of fla's o and gradients against the loop in float64. The budget is four times the
    error of our kernels, plus the floor of the type.
    """
    torch.manual_seed(seed)
    given = leaves(case, device)
    names = ["o", "dq", "dk", "dv"]
    names += ["dg"] * (case.decay is not None) + ["dbeta"] * case.delta
    do = torch.randn_like(given[2])

    def results(rule: Rule, its: list[torch.Tensor]) -> list[torch.Tensor]:
        its = [x.detach().requires_grad_() for x in its]
        q, k, v, *rest = its
        g = rest.pop(0) if case.decay is not None else None
        o = rule(q, k, v, g, rest[0] if case.delta else None)
        return [o.detach(), *torch.autograd.grad(o, its, do.to(o.dtype))]

    truth = results(by(loop), [x.double() for x in given])
    ours, theirs = results(by(recurrence), given), results(fla(), given)
    return [
        Error(
            name,
            (there.double() - right).norm().item(),
            4 * (here.double() - right).norm().item()
            + FLOOR[case.dtype] * right.norm().item(),
        )
        for name, here, there, right in zip(names, ours, theirs, truth)
    ]


def cases() -> Iterator[Case]:
    """The mixers that have kernels on both sides, in bf16."""
    for T, D, decay in product((512, 1000), (64, 128), (None, 0.1)):
        yield Case(T, 4, D, D, torch.bfloat16, decay, True, B=2)
        if decay is not None:
            yield Case(T, 4, D, D, torch.bfloat16, decay, B=2)
