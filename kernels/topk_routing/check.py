"""How far the routing kernels are from float64, and how far they may be.

`weights`: those that were kept, against the largest there are; `places`: the true
weights of the keys that were kept, against the same, so that a near tie may fall
either way; `r` and `dm`: the mix by what was kept and its gradient. Outputs start
as NaN.
"""

from collections.abc import Iterator
from itertools import product

import torch

from kernels.attention import check
from kernels.attention.check import FLOOR, Case, Error, inputs, packed, poisoned
from kernels.attention.fused import attention_fused
from kernels.attention.reference import attention
from kernels.topk_routing.op import routed_mix, topk_routing
from kernels.topk_routing.reference import routed, routed_mean

# Fractions of the weights. Half-precision softpick sums are right to half's rounding.
WEIGHTS = {torch.float32: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-11}
WIDTH = 96


def errors(case: Case, device: str = "cpu", seed: int = 0) -> list[Error]:
    """The errors of the four at `case.top` keys per query; the seed decides inputs."""
    torch.manual_seed(seed)
    q, k, v, _, alpha = inputs(case, device)
    alpha = None if case.band is None else alpha
    starts = packed(case, device)
    m, dr = torch.randn(2, case.B, case.T, WIDTH, device=device).to(case.dtype)
    spec = case.spec(alpha, starts)._replace(statistics=("lse",), top=None)
    with poisoned():
        _, rows = attention_fused(q, k, v, spec)
        index, weight = topk_routing(q, k, rows["lse"], case.top, spec)
        r, dm = check.results(lambda m: (routed_mix(m, index, weight),), [m], [dr])
    wide = spec._replace(alpha=None if alpha is None else alpha.double())
    p = attention(q.double(), k.double(), v.double(), wide)[1]
    _, right = routed(p, case.top)
    there = p.mean(dim=1).gather(2, index.long()).where(weight > 0, 0.0)
    places = index, weight.double()
    r_, dm_ = check.results(
        lambda m: (routed_mean(m, *places),), [m.double()], [dr.double()]
    )
    fine, coarse = WEIGHTS[case.dtype], 2 * FLOOR[case.dtype]
    found = {"weights": (weight, right, fine), "places": (there, right, fine)}
    found |= {"r": (r, r_, coarse), "dm": (dm, dm_, coarse)}
    return [
        Error(name, (a.double() - b).norm().item(), budget * b.norm().item())
        for name, (a, b, budget) in found.items()
    ]


def cases() -> Iterator[Case]:
    """What a GPU is checked with."""
    for dtype, D, normaliser, band in product(
        FLOOR, (32, 64, 128), ("softmax", "softpick"), (None, 64)
    ):
        shape = {"D": D, "dtype": dtype, "normaliser": normaliser, "band": band}
        yield Case(T=333, H=4, G=2, B=2, top=8, layout="head_first", **shape)
        yield Case(T=256, H=12, G=12, top=8, **shape)
        if D == 64:
            for T in (1, 7, 65):
                yield Case(T=T, H=2, G=1, top=16, layout="contiguous", **shape)
            yield Case(T=300, H=2, G=2, top=4, window=100, **shape)
            yield Case(T=300, H=2, G=2, B=2, top=8, document=50, **shape)
