"""One step of a decode as an operator that torch.compile sees. Triton is imported
when it first runs: fake tensors need none.

Legend: as in reference.py.
"""

import torch

from kernels.attention.spec import AttentionSpec, Variant
from kernels.decode.configs import MOST_NEW, WIDEST, WIDEST_HEAD
from kernels.decode.reference import check_spec
from kernels.operators import fake, operator

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@operator("attention_decode")
def _decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    alpha: torch.Tensor | None,
    queries: torch.Tensor | None,
    keys: torch.Tensor | None,
    normaliser: str,
    scale: float,
    window: int | None,
    band: int | None,
) -> torch.Tensor:
    from kernels.decode import launch

    variant = Variant(normaliser, band, window, scale)
    return launch.decode(q, k, v, alpha, queries, keys, variant)


@fake(_decode)
def _(q, k, v, *_):
    return q.new_empty(*q.shape[:3], v.shape[3])


@torch.no_grad()
def attention_decode(
    q_BnHC: torch.Tensor,
    k_BSGC: torch.Tensor,
    v_BSGV: torch.Tensor,
    spec: AttentionSpec,
    queries_BwHD: torch.Tensor | None = None,
    keys_BnJD: torch.Tensor | None = None,
) -> torch.Tensor:
    """o_BnHV as kernels.decode.reference.decode defines it, for 1 to 16 new tokens;
    products and sums in fp32. Views with a unit stride in the last dimension are read
    in place. No gradients. Two runs agree bit for bit.

    Raises ValueError for shapes and values that have no meaning,
    NotImplementedError for what these kernels cannot serve.
    """
    check_spec(spec)
    _check_tensors(q_BnHC, k_BSGC, v_BSGV)
    spec.check_for(q_BnHC)
    _check_band(q_BnHC, k_BSGC.shape[1], spec.band, queries_BwHD, keys_BnJD)
    given = q_BnHC, k_BSGC, v_BSGV, spec.alpha, queries_BwHD, keys_BnJD
    return _decode(*given, spec.normaliser, spec.scale, spec.window, spec.band)


def _check_tensors(q, k, v) -> None:
    """Raise where q, k, v do not fit together or cannot be served."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 4:
        raise ValueError(f"q [B,n,H,C], k [B,S,G,C], v [B,S,G,V] needed, not {shapes}")
    (B, n, H, C), (S, G) = q.shape, k.shape[1:3]
    if k.shape != (B, S, G, C) or v.shape[:3] != (B, S, G):
        raise ValueError(f"batch, positions, heads and widths must agree: {shapes}")
    if 0 in (*q.shape, *v.shape) or H % G != 0 or n > S:
        raise ValueError(
            "the key heads must divide the query heads, and the keys hold those of "
            f"the new tokens: {shapes}"
        )
    if n > MOST_NEW or max(C, v.shape[3]) > WIDEST:
        raise NotImplementedError(
            f"{shapes}: these kernels serve up to {MOST_NEW} new tokens and widths up "
            f"to {WIDEST}; use the reference"
        )
    _check_kinds(q, k, v)


def _check_kinds(q, *others) -> None:
    """Raise where dtypes, devices or layouts differ from what is served."""
    kinds = [(x.dtype, x.device) for x in (q, *others)]
    if len(set(kinds)) > 1 or q.dtype not in DTYPES:
        raise NotImplementedError(f"{kinds}: one device, and one of {DTYPES} for all")
    if any(x.stride(3) != 1 for x in (q, *others)):
        raise NotImplementedError(
            "the width must be the fastest dimension: call .contiguous()"
        )


def _check_band(q, S: int, band, queries, keys) -> None:
    """Raise where the band's tensors do not fit q and S tokens."""
    given = [x is not None for x in (band, queries, keys)]
    if not any(given):
        return
    if not all(given):
        raise ValueError("alpha, band, queries and keys belong together")
    (B, n, H), (w, D) = q.shape[:3], queries.shape[1::2]
    if queries.shape != (B, w, H, D) or keys.shape[::3] != (B, D):
        raise ValueError(
            f"queries [B,w,H,D] and keys [B,n,J,D] are needed, not "
            f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    if keys.shape[1] != n or H % keys.shape[2] != 0:
        raise ValueError(f"keys {tuple(keys.shape)} of {n} new tokens, {H} heads")
    if not min(S, n + band) <= w <= S:
        raise ValueError(
            f"band {band} of {n} new tokens among {S} needs the last "
            f"{min(S, n + band)} queries, not {w}"
        )
    if D > WIDEST_HEAD:
        raise NotImplementedError(f"heads {D} wide: up to {WIDEST_HEAD} with a band")
    _check_kinds(q, queries, keys)
