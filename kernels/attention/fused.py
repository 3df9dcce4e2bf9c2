"""Fused causal attention as an operator that autograd and torch.compile see.
Triton is imported when it first runs: fake tensors need none.

Legend: B batch, T positions, H query heads, G key/value heads, D head width. Memory
is linear in T; two runs agree bit for bit.
"""

import torch

from kernels.attention.rows import levels, per_row
from kernels.attention.spec import STATISTICS, AttentionSpec, Variant
from kernels.operators import differentiable, fake, operator

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 128


@operator("attention")
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    *variant: Variant,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """o, L, the statistic, its cut. An operator returns tensors: what there is not
    is empty.
    """
    from kernels.attention import launch

    launch.require(q.device)
    return filled(q, launch.forward(q, k, v, alpha, starts, Variant(*variant)))


@fake(_attention)
def _(q, k, v, alpha, starts, *variant):
    return fakes(q, v is not None, Variant(*variant).statistic)


@operator("attention_backward")
def _attention_backward(
    do: torch.Tensor | None,
    dL: torch.Tensor | None,
    dvalue: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    o: torch.Tensor,
    L: torch.Tensor,
    value: torch.Tensor,
    cut: torch.Tensor,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    *variant: Variant,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq, dk, dv, dalpha; the last two are empty where there is no v or alpha."""
    from kernels.attention import launch

    asked, into = Variant(*variant), launch.Gradients.apart(q, k, v)
    cut = cut if asked.statistic == "mass" else None
    given = dense(do), dL, dvalue, q, k, v, o, L, value, cut, alpha, starts
    dalpha = launch.backward(*given, asked, into)
    return filled(q, (*into, dalpha))


@fake(_attention_backward)
def _(do, dL, dvalue, q, k, v, o, L, value, cut, alpha, *_):
    dqkv = (None if x is None else x.new_empty(x.shape) for x in (q, k, v))
    return filled(q, (*dqkv, None if alpha is None else alpha.new_empty(alpha.shape)))


def filled(q: torch.Tensor, found: tuple) -> tuple[torch.Tensor, ...]:
    """What an operator returns: an empty tensor for every None."""
    return tuple(q.new_empty(0, dtype=torch.float32) if x is None else x for x in found)


def fakes(q: torch.Tensor, mixed: bool, statistic: str | None) -> tuple:
    """(o, L, statistic, cut) in shape; mixed: whether there is an o."""
    o = q.new_empty(q.shape) if mixed else None
    value = None if statistic is None else per_row(q)
    cut = per_row(q) if statistic == "mass" else None
    return filled(q, (o, levels(q), value, cut))


def dense(do: torch.Tensor | None) -> torch.Tensor | None:
    """A gradient as the kernels read it."""
    return do if do is None or do.stride(-1) == 1 else do.contiguous()


def _setup(ctx, inputs, output):
    q, k, v, alpha, starts, *variant = inputs
    ctx.variant = Variant(*variant)
    ctx.save_for_backward(q, k, v, *output, alpha, starts)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dL, dvalue, _):
    q, k, v, o, L, value, cut, alpha, starts = ctx.saved_tensors
    if do is None and v is not None:
        do = torch.zeros_like(o)
    do = None if v is None else do
    dvalue = None if ctx.variant.statistic is None else dvalue
    given = do, dL, dvalue, q, k, v, o, L, value, cut, alpha, starts
    dq, dk, dv, dalpha = _attention_backward(*given, *ctx.variant)
    dv = None if v is None else dv
    dalpha = None if alpha is None else dalpha
    return dq, dk, dv, dalpha, None, *(None,) * len(ctx.variant)


differentiable(_attention, _backward, _setup)


def attention_fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    spec: AttentionSpec,
    head_first: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """o_BTHD as the spec says. q is [B, T, H, D], k and v [B, T, G, D] (head_first: T
    after the heads, o as well), G divides H and head h reads h // (H / G). Views of a
    fused projection are read in place. Every input, alpha too, gets a gradient.

    With statistics, returns (o, {name: stat_BHT}); all have gradients.

    Raises ValueError for shapes and values that have no meaning, NotImplementedError
    for what these kernels cannot serve.
    """
    if head_first:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    check_tensors(q, k, v, spec)
    options = *spec.flat(q.shape[3]), *spec.gathered()
    o, *rows = _attention(q, k, v, spec.alpha, spec.starts, *options)
    o = o.transpose(1, 2) if head_first else o
    return (o, named(spec, q, rows)) if spec.statistics else o


def row_statistics(
    q: torch.Tensor, k: torch.Tensor, spec: AttentionSpec
) -> dict[str, torch.Tensor]:
    """The statistics alone, {name: stat_BHT}, of what attention_fused would mix
    values with: nothing is mixed, forward or backward, which spares three of its
    seven products. Raises what attention_fused raises, and ValueError for the
    transposed score and where no statistic is asked for.
    """
    if spec.alpha is not None:
        raise ValueError("alpha: statistics alone have no transposed score")
    if not spec.statistics:
        raise ValueError(f"statistics: at least one of {STATISTICS}")
    check_tensors(q, k, k, spec)
    options = *spec.flat(q.shape[3]), *spec.gathered()
    _, *rows = _attention(q, k, None, None, spec.starts, *options)
    return named(spec, q, rows)


def named(
    spec: AttentionSpec, q: torch.Tensor, rows: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """{name: stat_BHT} of the spec from L and the value that an operator returns
    for q.
    """
    (L, value, _), found = rows, {}
    if "lse" in spec.statistics:
        found["lse"] = (L * spec.scale_of(q.shape[3])).float()
    kind = spec.concentration
    if kind is not None:
        found[kind] = _normalised(kind, value, _seen(q, spec.window, spec.starts))
    return found


def document_starts(cu_seqlens: torch.Tensor, total: int) -> torch.Tensor:
    """starts_1T of documents that follow each other in one row of `total` tokens:
    document i holds the tokens from cu_seqlens[i] up to cu_seqlens[i + 1].
    """
    t_T = torch.arange(total, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    document_T = torch.searchsorted(cu_seqlens, t_T, right=True) - 1
    return cu_seqlens[document_T].to(torch.int32)[None]


def _seen(q, window, starts) -> torch.Tensor:
    """How many keys each query sees, broadcast to [B, H, T]."""
    T = q.shape[1]
    seen_1T = torch.arange(1, T + 1, device=q.device)[None]
    if starts is not None:
        seen_1T = seen_1T - starts
    if window is not None:
        seen_1T = seen_1T.clamp(max=window)
    return seen_1T[:, None]


def _normalised(name: str, value_BHT, seen_B1T) -> torch.Tensor:
    """The statistic from what the kernels gather."""
    if name == "rms":
        return (value_BHT / seen_B1T).sqrt()
    if name == "entropy":
        most_B1T = seen_B1T.clamp(min=2).to(value_BHT.dtype).log()
        return torch.where(seen_B1T > 1, 1 - value_BHT / most_B1T, 0.0)
    return value_BHT


def check_tensors(q, k, v, spec: AttentionSpec) -> None:
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
    spec.check_for(q)
