"""Fused causal attention as an operator that autograd and torch.compile see.
Triton is imported when it first runs: fake tensors need none.

Legend: B batch, T positions, H query heads, G key/value heads, D head width,
W band. Memory is linear in T; two runs agree bit for bit.
"""

import math

import torch

from kernels.attention.reference import NORMALISERS
from kernels.attention.rows import per_row

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 128
STATISTICS = ("lse",)


@torch.library.custom_op("kablate::attention", mutates_args=())
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    alpha: torch.Tensor | None,
    normaliser: str,
    band: int | None,
    window: int | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    from kernels.attention import launch

    if q.device.type == "cpu" and not launch.INTERPRETED:
        raise NotImplementedError(
            "Triton has no CPU: use the reference, or set TRITON_INTERPRET=1 "
            "before the first import to interpret the kernels"
        )
    variant = launch.Variant(normaliser, band, window, scale)
    return launch.forward(q, k, v, alpha, variant)


@_attention.register_fake
def _(q, k, v, alpha, normaliser, band, window, scale):
    return q.new_empty(q.shape), per_row(q)


@torch.library.custom_op("kablate::attention_backward", mutates_args=())
def _attention_backward(
    do: torch.Tensor,
    dL: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    L: torch.Tensor,
    alpha: torch.Tensor | None,
    normaliser: str,
    band: int | None,
    window: int | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """An operator returns tensors: dalpha is empty where there is no alpha."""
    from kernels.attention import launch

    variant = launch.Variant(normaliser, band, window, scale)
    do = do if do.stride(-1) == 1 else do.contiguous()
    *dqkv, dalpha = launch.backward(do, dL, q, k, v, o, L, alpha, variant)
    return *dqkv, L.new_empty(0) if dalpha is None else dalpha


@_attention_backward.register_fake
def _(do, dL, q, k, v, o, L, alpha, normaliser, band, window, scale):
    dalpha = L.new_empty(0 if alpha is None else q.shape[2])
    return *(x.new_empty(x.shape) for x in (q, k, v)), dalpha


def _setup(ctx, inputs, output):
    q, k, v, alpha, *ctx.variant = inputs
    ctx.save_for_backward(q, k, v, *output, alpha)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dL):
    q, k, v, o, L, alpha = ctx.saved_tensors
    do = torch.zeros_like(o) if do is None else do
    dL = dL if dL is None else per_row(q).copy_(dL)
    dq, dk, dv, dalpha = _attention_backward(do, dL, q, k, v, o, L, alpha, *ctx.variant)
    return dq, dk, dv, None if alpha is None else dalpha, None, None, None, None


_attention.register_autograd(_backward, setup_context=_setup)


def attention_fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    normaliser: str,
    alpha: torch.Tensor | None = None,
    band: int | None = None,
    window: int | None = None,
    head_first: bool = False,
    scale: float | None = None,
    statistics: tuple[str, ...] = (),
) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """o_BTHD = normaliser(S) v, strictly causal, as `attention` defines it.

    S_ts = scale (q_t · k_s + [0 <= t - s <= band] alpha_h q_s · k_t), with
    scale = 1 / sqrt(D) unless given; t sees s where 0 <= t - s < window. q is
    [B, T, H, D], k and v [B, T, G, D] (head_first: T after the heads, o as
    well), G divides H and head h reads h // (H / G). Views of a fused
    projection are read in place. alpha_H is fp32; every input gets a gradient.

    With statistics, returns (o, {name: stat_BHT}): `lse` = log sum e^S, for
    softpick log(sum |e^S - 1| + eps e^m) with its row maximum m.

    Raises ValueError for shapes and values that have no meaning,
    NotImplementedError for what these kernels cannot serve.
    """
    if head_first:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    _check(q, k, v, alpha, band)
    _check_options(normaliser, band, window, scale, statistics)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    o, L = _attention(q, k, v, alpha, normaliser, band, window, scale)
    o = o.transpose(1, 2) if head_first else o
    if not statistics:
        return o
    return o, {"lse": L * scale}


def _check(q, k, v, alpha, band) -> None:
    """Raise where the tensors do not fit together or cannot be served."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if q.dim() != 4 or k.shape != v.shape or k.dim() != 4:
        raise ValueError(f"q [B,T,H,D], k and v [B,T,G,D] are needed, not {shapes}")
    B, T, H, D = q.shape
    if k.shape[:2] != (B, T) or k.shape[3] != D:
        raise ValueError(f"batch, positions and head width must agree: {shapes}")
    if H % k.shape[2] != 0:
        raise ValueError(f"the key heads must divide the query heads: {shapes}")
    if 0 in (B, T, H):
        raise ValueError(f"nothing to attend to: {shapes}")
    if D > WIDEST or D % 8 != 0:
        raise NotImplementedError(
            f"head width {D}: these kernels serve multiples of 8 up to {WIDEST}; "
            "pad it, or use the reference"
        )
    if not q.dtype == k.dtype == v.dtype or q.dtype not in DTYPES:
        raise NotImplementedError(
            f"dtypes {q.dtype}, {k.dtype}, {v.dtype}: one of {DTYPES} for all three"
        )
    if any(x.stride(3) != 1 for x in (q, k, v)):
        raise NotImplementedError(
            "the head width must be the fastest dimension: call .contiguous()"
        )
    if not q.device == k.device == v.device:
        raise ValueError(f"devices differ: {q.device}, {k.device}, {v.device}")
    if (alpha is None) != (band is None):
        raise ValueError("alpha and band belong together: give both or neither")
    if alpha is not None and (alpha.shape != (H,) or alpha.dtype != torch.float32):
        raise ValueError(
            f"alpha must be fp32 [{H}], one per head, not {alpha.dtype} "
            f"{tuple(alpha.shape)}"
        )


def _check_options(normaliser, band, window, scale, statistics) -> None:
    """Raise where a value lies outside its range."""
    if normaliser not in NORMALISERS:
        raise ValueError(f"normaliser {normaliser!r}: one of {NORMALISERS}")
    if band is not None and band < 0:
        raise ValueError(f"band {band}: at least 0 (the diagonal alone)")
    if window is not None and window < 1:
        raise ValueError(f"window {window}: at least 1, the query's own position")
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale {scale}: positive and finite")
    unknown = set(statistics) - set(STATISTICS)
    if unknown:
        raise NotImplementedError(
            f"statistics {sorted(unknown)}: only {STATISTICS}; use the reference"
        )
