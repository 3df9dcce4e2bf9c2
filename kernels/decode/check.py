"""How far the decode op is from float64, and how far it may be: as in
kernels/attention/check.py, against the reference in float64 on the same inputs.

Inputs lie as a decode leaves them: keys and values are the beginning of longer
memory, queries its middle, and what lies around them is NaN.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch

from kernels.attention.check import FLOOR, poisoned
from kernels.attention.spec import NORMALISERS, AttentionSpec
from kernels.decode.op import attention_decode
from kernels.decode.reference import decode

MORE = 7


class Case(NamedTuple):
    """One comparison. latent: L of MLA absorbed, None for keys and values of their
    own heads (G); band: RA's, None without; size multiplies every input.
    """

    S: int
    n: int
    H: int
    G: int
    D: int
    dtype: torch.dtype
    normaliser: str = "softmax"
    window: int | None = None
    band: int | None = None
    latent: int | None = None
    size: float = 1.0
    B: int = 1


def memory(case: Case, device: str, tokens: int, heads: int, width: int):
    """x [B, tokens, heads, width] amid NaN."""
    room = MORE + tokens + MORE
    whole = torch.full((case.B, room, heads, width), math.nan, dtype=case.dtype)
    x = whole.to(device)[:, MORE : MORE + tokens]
    return x.copy_(case.size * torch.randn(x.shape, device=device))


def inputs(case: Case, device: str) -> dict:
    """Fresh arguments of a decode."""
    n, H, D, G = case.n, case.H, case.D, case.G
    width = case.latent or D
    q = torch.randn(case.B, n, H, width, dtype=case.dtype, device=device) * case.size
    k = memory(case, device, case.S, 1 if case.latent else G, width)
    v = memory(case, device, case.S, 1 if case.latent else G, width)
    spec = AttentionSpec(case.normaliser, 1 / math.sqrt(D), case.window)
    given = {"q_BnHC": q, "k_BSGC": k, "v_BSGV": v}
    if case.band is None:
        return given | {"spec": spec}
    w, alpha = min(case.S, n + case.band), torch.randn(H, device=device)
    return given | {
        "spec": spec._replace(alpha=alpha, band=case.band),
        "queries_BwHD": memory(case, device, w, H, D),
        "keys_BnJD": memory(case, device, n, H, D) if case.latent else k[:, -n:],
    }


def cast(given: dict, dtype: torch.dtype) -> dict:
    """The same arguments with every tensor in that dtype."""
    tensors = {name: x for name, x in given.items() if isinstance(x, torch.Tensor)}
    given = given | {name: x.to(dtype) for name, x in tensors.items()}
    spec = given["spec"]
    if spec.alpha is None:
        return given
    return given | {"spec": spec._replace(alpha=spec.alpha.to(dtype))}


def error(case: Case, device: str = "cpu") -> tuple[float, float]:
    """(||out - ref||, what it may be)."""
    given = inputs(case, device)
    truth = decode(**cast(given, torch.float64))
    rough = (decode(**cast(given, case.dtype)).double() - truth).norm().item()
    rough = rough if math.isfinite(rough) else math.inf
    with poisoned():
        found = attention_decode(**given)
    budget = 2 * rough + FLOOR[case.dtype] * truth.norm().item()
    return (found.double() - truth).norm().item(), budget


def cases() -> Iterator[Case]:
    """What a GPU is checked with: every shipped configuration and its corners."""
    for dtype, normaliser, band in product(FLOOR, NORMALISERS[:2], (None, 64)):
        shape = {"dtype": dtype, "normaliser": normaliser, "band": band}
        for D, n in product((16, 64, 96, 128), (1, 5, 16)):
            yield Case(S=333, n=n, H=12, G=12, D=D, **shape)
            yield Case(S=300, n=n, H=12, G=4, D=D, B=3, window=100, **shape)
        for latent, n in product((32, 96, 128, 256, 512), (1, 4, 16)):
            yield Case(S=515, n=n, H=12, G=1, D=64, latent=latent, **shape)
        for S in (1, 2, 63, 64, 65, 66, 1024, 20_000):
            yield Case(S=S, n=1, H=12, G=12, D=64, **shape)
            yield Case(S=S, n=1, H=12, G=1, D=64, latent=128, **shape)
        for window in (1, 63, 64, 65):
            yield Case(S=300, n=3, H=12, G=2, D=64, window=window, **shape)
        for size in (1e-4, 1e-2, 10.0, 1e2):
            yield Case(S=300, n=2, H=12, G=2, D=64, size=size, **shape)
    for dtype, band in product(FLOOR, (0, 1, 63, 65, 1000)):
        yield Case(S=200, n=3, H=6, G=2, D=64, dtype=dtype, band=band)
        shape = {"normaliser": NORMALISERS[2], "dtype": dtype, "band": band}
        yield Case(S=200, n=3, H=6, G=2, D=64, **shape)
