"""How far the fused op is from float64, and how far it may be.

The measure is ||out - ref|| for o and every gradient, ref the plain formula in
float64 on the same (rounded) inputs. The budget is twice the error of the plain
formula in the inputs' own precision, plus a floor: a fraction
of the result, and of the terms it is summed from, where they cancel (one visible
key: softmax's dS is a difference of equals, the plain formula may hit 0). The plain
formula is the worst of ORDERS: softpick's dS can hang on how one small score rounds.

Outputs start as NaN, so a value that no program wrote is an infinite error.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import torch

from kernels.attention.configs import SHORT
from kernels.attention.fused import attention_fused
from kernels.attention.reference import (
    attention,
    mix,
    normalise,
    reciprocal,
    scores,
    statistic,
    visible,
)
from kernels.attention.spec import NORMALISERS, AttentionSpec

# Fractions of the result that are allowed beside twice the plain error: half a unit
# in the last place; for fp32 some, as exp2 is approximate and sums are long.
FLOOR = {torch.float32: 2e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}
HALF = (torch.float16, torch.bfloat16)
# Inputs of this size leave softmax one key: then the terms are those of one.
ONE_KEY = 100.0
LAYOUTS = ("fused", "contiguous", "head_first")
# So many orders of the sums q · k.
ORDERS = 4


class Case(NamedTuple):
    """One comparison; size multiplies every input, layout is one of LAYOUTS.
    document: packed documents of so many tokens on average, None for one.
    """

    T: int
    H: int
    G: int
    D: int
    dtype: torch.dtype
    normaliser: str = "softmax"
    band: int | None = None
    window: int | None = None
    layout: str = "fused"
    size: float = 1.0
    B: int = 1
    statistic: str | None = None
    top: int | None = None
    document: int | None = None

    def spec(
        self, alpha: torch.Tensor | None = None, starts: torch.Tensor | None = None
    ) -> AttentionSpec:
        """What the operators are asked for, with an alpha where there is a band."""
        return AttentionSpec(
            self.normaliser,
            window=self.window,
            alpha=alpha,
            band=self.band,
            starts=starts,
            statistics=() if self.statistic is None else (self.statistic,),
            top=self.top,
        )


class Error(NamedTuple):
    """||out - ref|| and what it may be; both absolute."""

    name: str
    error: float
    budget: float

    @property
    def ok(self) -> bool:
        """Within the budget; NaN is not."""
        return self.error <= self.budget


@contextmanager
def poisoned() -> Iterator[None]:
    """Every torch.empty inside is filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def inputs(case: Case, device: str) -> tuple[torch.Tensor, ...]:
    """Fresh q_BTHD, k_BTGD, v_BTGD, do_BTHD in the case's layout, and alpha_H."""
    B, T, H, G, D = case.B, case.T, case.H, case.G, case.D
    kind = {"dtype": case.dtype, "device": device}
    if case.layout == "fused":
        heads = torch.randn(B, T, H + 2 * G, D, **kind).mul_(case.size)
        q, k, v = heads.split((H, G, G), dim=2)
    elif case.layout == "contiguous":
        q, k, v = (torch.randn(B, T, n, D, **kind) * case.size for n in (H, G, G))
    else:
        q, k, v = (
            (torch.randn(B, n, T, D, **kind) * case.size).transpose(1, 2)
            for n in (H, G, G)
        )
    return q, k, v, torch.randn(B, T, H, D, **kind), torch.randn(H, device=device)


def packed(case: Case, device: str) -> torch.Tensor | None:
    """starts_BT of documents of random lengths, None where there are none."""
    if case.document is None:
        return None
    t_T = torch.arange(case.T, device=device)
    begins_BT = torch.rand(case.B, case.T, device=device) < 1 / case.document
    return (t_T * begins_BT).cummax(dim=1).values.to(torch.int32)


def results(function, leaves: list[torch.Tensor], upstream: list) -> list:
    """o, the statistic where there is one, and the gradients of the leaves."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    found = function(*leaves)[: len(upstream)]
    upstream = [dx.to(x.dtype) for dx, x in zip(upstream, found)]
    return [*(x.detach() for x in found), *torch.autograd.grad(found, leaves, upstream)]


def errors(case: Case, device: str = "cpu", seed: int = 0) -> list[Error]:
    """The errors of o, the statistic, dq, dk, dv and, with a band, dalpha, of inputs
    that the seed decides.
    """
    torch.manual_seed(seed)
    q, k, v, do, alpha = inputs(case, device)
    leaves = [q, k, v] if case.band is None else [q, k, v, alpha]
    starts = packed(case, device)
    upstream, names = [do], ["o", "dq", "dk", "dv", "dalpha"]
    if case.statistic is not None:
        # As large as what the gradient of o sums to.
        upstream.append(math.sqrt(case.D) * torch.randn(do.shape[:3]).to(do).mT)
        names.insert(1, case.statistic)

    def plain(q, k, v, alpha=None):
        o, p = attention(q, k, v, case.spec(alpha, starts))
        if case.statistic is None:
            return (o,)
        mask = visible(case.T, case.T, case.window, q.device, starts)
        return o, statistic(p, mask, case.statistic, case.top)

    def fused(q, k, v, alpha=None):
        first = case.layout == "head_first"
        if first:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        o = attention_fused(q, k, v, case.spec(alpha, starts), head_first=first)
        o, found = (o, {}) if case.statistic is None else o
        return o.transpose(1, 2) if first else o, *found.values()

    truth = results(plain, [x.double() for x in leaves], upstream)
    # The plain formula in this precision; its alpha has to be of the same type.
    low = [x.to(case.dtype) for x in leaves]
    rough = zip(*(_reordered(plain, low, upstream) for _ in range(ORDERS)))
    with poisoned():
        ours = results(fused, leaves, upstream)
    terms = _terms(case, q, k, v, do)
    if case.band is not None:
        terms["dalpha"] += _alpha_terms(case, *(x.double() for x in leaves), do, starts)
    return [
        _compare(name, out, plains, ref, terms[name], FLOOR[case.dtype])
        for name, out, plains, ref in zip(names, ours, rough, truth)
    ]


def _reordered(function, leaves: list[torch.Tensor], upstream: list) -> list:
    """results() with the columns of q and k in a random order, which changes how the
    scores round.
    """
    q, k, *others = leaves
    order = torch.randperm(q.shape[-1], device=q.device)
    found = results(function, [q[..., order], k[..., order], *others], upstream)
    for place in (len(upstream), len(upstream) + 1):
        found[place] = found[place][..., order.argsort()]
    return found


def _terms(case: Case, q, k, v, do) -> dict[str, float]:
    """The size that the terms of each result would sum to without cancelling."""

    def rms(x):
        return x.double().square().mean().sqrt().item()

    seen = 1 if case.size >= ONE_KEY else min(case.T, case.window or case.T)
    seen = math.sqrt(seen)
    dp = rms(v) * rms(do) * math.sqrt(case.D)
    if case.statistic is not None:
        dp += math.sqrt(case.D)
    per_score = dp / math.sqrt(case.D) / seen
    # Of one key p, rounded to the inputs' type, scales a whole row.
    alone = float(seen == 1 and case.normaliser != "softmax" and case.dtype in HALF)
    dalpha = per_score * rms(q) * rms(k) * math.sqrt(case.D * case.B * case.T)
    return {
        "o": alone * rms(v) * math.sqrt(do.numel()),
        "dq": per_score * rms(k) * math.sqrt(q.numel()),
        "dk": per_score * rms(q) * math.sqrt(q.numel()),
        "dv": alone * rms(do) * math.sqrt(v.numel()),
        "dalpha": dalpha * seen * math.sqrt(case.H),
        case.statistic: 0.0,
    }


def _alpha_terms(case: Case, q, k, v, alpha, do, starts) -> float:
    """||dS R||, the terms dS_ts R_ts of dalpha. Softpick's dS is up to 1 / eps times
    dP where scores are small, and one sum has no norm over its luck.
    """
    mask = visible(case.T, case.T, case.window, q.device, starts)
    r = reciprocal(q, k, case.T, case.band)
    s = (scores(q, k) + alpha[:, None, None] * r).requires_grad_()
    o = mix(normalise(s, mask, case.normaliser), v)
    (ds,) = torch.autograd.grad(o, s, do.to(o.dtype))
    return (ds * r).norm().item()


def _compare(name, out, plains, ref, terms: float, floor: float) -> Error:
    error = (out.double() - ref).norm().item()
    errors = [(low.double() - ref).norm().item() for low in plains]
    plain = max(errors) if all(map(math.isfinite, errors)) else math.inf
    size = ref.norm().item()
    return Error(name, error, 2 * plain + floor * (size + terms))


def cases() -> Iterator[Case]:
    """What a GPU is checked with: every shipped configuration and its corners."""
    for dtype, D, normaliser, band in product(
        FLOOR, (16, 32, 64, 96, 128), NORMALISERS[:2], (None, 64)
    ):
        shape = {"D": D, "dtype": dtype, "normaliser": normaliser, "band": band}
        yield Case(T=256, H=2, G=2, B=2, **shape)
        yield Case(T=333, H=4, G=2, window=100, layout="head_first", **shape)
        if D in (64, 128):
            for T in (1, 7, 65, 130):
                yield Case(T=T, H=2, G=1, layout="contiguous", **shape)
            for window in (1, 64, 200):
                yield Case(T=256, H=2, G=2, window=window, **shape)
    for dtype, normaliser in product(FLOOR, NORMALISERS):
        shape = {"T": 200, "D": 64, "dtype": dtype, "normaliser": normaliser}
        for band in (0, 5, 100, 1000):
            yield Case(H=3, G=1, window=33, band=band, **shape)
    yield from row_cases()
    yield from long_cases()
    for dtype, normaliser, band in product(FLOOR, NORMALISERS[:2], (None, 64)):
        shape = {"dtype": dtype, "normaliser": normaliser, "band": band}
        for size in (1e-4, 1e-2, 10.0, 1e2, 1e4):
            # Of large scores few rows have two keys that count, and these decide
            # both errors: many sequences, or chance compares them.
            yield Case(T=200, H=2, G=2, D=64, size=size, B=8, **shape)


def long_cases() -> Iterator[Case]:
    """Where tiles are not those of short rows; fp32 has the same."""
    for dtype, normaliser, band in product(HALF, NORMALISERS[:2], (None, 64)):
        shape = {"H": 2, "G": 1, "D": 64, "normaliser": normaliser, "band": band}
        yield Case(T=SHORT + 64, dtype=dtype, **shape)
        yield Case(T=SHORT + 7, window=300, dtype=dtype, **shape)
        yield Case(T=SHORT + 7, document=700, dtype=dtype, **shape)
        yield Case(T=SHORT + 7, statistic="topk", top=8, dtype=dtype, **shape)


def row_cases() -> Iterator[Case]:
    """Statistics and packed documents, likewise."""
    for dtype, D, band in product(FLOOR, (16, 64, 96, 128), (None, 64)):
        shape = {"D": D, "dtype": dtype, "band": band}
        for name, top in (("topk", 8), ("max", None), ("entropy", None), ("rms", None)):
            row = {"statistic": name, "top": top, **shape}
            yield Case(T=333, H=4, G=2, B=2, layout="head_first", **row)
            if D == 64:
                yield Case(T=1, H=2, G=1, layout="contiguous", **row)
                yield Case(T=300, H=2, G=2, window=100, **row)
                yield Case(T=300, H=2, G=2, B=2, document=50, **row)
            if top is not None or name == "max":
                yield Case(T=200, H=2, G=2, normaliser="softpick", **row)
        for normaliser in NORMALISERS[:2]:
            packed = {"normaliser": normaliser, **shape}
            yield Case(T=333, H=4, G=2, B=2, document=40, **packed)
            yield Case(T=333, H=2, G=2, B=2, document=150, window=70, **packed)
