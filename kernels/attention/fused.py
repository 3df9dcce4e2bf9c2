"""Fused causal attention as an operator that autograd and torch.compile see.
Triton is imported when it first runs: fake tensors need none.

Legend: B batch, T positions, H query heads, G key/value heads, D head width,
W band. Memory is linear in T; two runs agree bit for bit.
"""

import math
from typing import NamedTuple

import torch

from kernels.attention.reference import NORMALISERS
from kernels.attention.rows import levels, per_row
from kernels.operators import differentiable, fake, operator

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 128
# Statistic -> what the kernels gather for it.
GATHERED = {"topk": "mass", "max": "mass", "entropy": "entropy", "rms": "squares"}
STATISTICS = ("lse", *GATHERED)
# Those of rows that sum to 1.
OF_SOFTMAX = ("entropy", "rms")
# Largest k of a top-k mass: each adds a maximum and a minimum per score.
MOST = 16


@operator("attention")
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    normaliser: str,
    band: int | None,
    window: int | None,
    scale: float,
    statistic: str | None,
    top: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """o, L, the statistic, its cut. An operator returns tensors: what there is not
    is empty.
    """
    from kernels.attention import launch

    launch.require(q.device)
    variant = launch.Variant(normaliser, band, window, scale, statistic, top)
    return filled(q, launch.forward(q, k, v, alpha, starts, variant))


@fake(_attention)
def _(q, k, v, alpha, starts, normaliser, band, window, scale, statistic, top):
    return fakes(q, v is not None, statistic)


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
    normaliser: str,
    band: int | None,
    window: int | None,
    scale: float,
    statistic: str | None,
    top: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq, dk, dv, dalpha; the last two are empty where there is no v or alpha."""
    from kernels.attention import launch

    variant = launch.Variant(normaliser, band, window, scale, statistic, top)
    into = launch.Gradients.apart(q, k, v)
    cut = cut if statistic == "mass" else None
    given = dense(do), dL, dvalue, q, k, v, o, L, value, cut, alpha, starts
    dalpha = launch.backward(*given, variant, into)
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
    q, k, v, alpha, starts, *ctx.variant = inputs
    ctx.save_for_backward(q, k, v, *output, alpha, starts)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dL, dvalue, _):
    q, k, v, o, L, value, cut, alpha, starts = ctx.saved_tensors
    if do is None and v is not None:
        do = torch.zeros_like(o)
    do = None if v is None else do
    dvalue = None if ctx.variant[-2] is None else dvalue
    given = do, dL, dvalue, q, k, v, o, L, value, cut, alpha, starts
    dq, dk, dv, dalpha = _attention_backward(*given, *ctx.variant)
    dv = None if v is None else dv
    return dq, dk, dv, None if alpha is None else dalpha, *(None,) * 7


differentiable(_attention, _backward, _setup)


def attention_fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    normaliser: str,
    alpha: torch.Tensor | None = None,
    band: int | None = None,
    window: int | None = None,
    starts: torch.Tensor | None = None,
    head_first: bool = False,
    scale: float | None = None,
    statistics: tuple[str, ...] = (),
    top: int | None = None,
) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """o_BTHD = normaliser(S) v, strictly causal, as `attention` defines it.

    S_ts = scale (q_t · k_s + [0 <= t - s <= band] alpha_h q_s · k_t), with
    scale = 1 / sqrt(D) unless given; t sees s where 0 <= t - s < window and
    s >= starts_BT, int32 on the device: the first token of t's document, so that
    documents packed into a row do not see each other. q is
    [B, T, H, D], k and v [B, T, G, D] (head_first: T after the heads, o as
    well), G divides H and head h reads h // (H / G). Views of a fused
    projection are read in place. alpha_H is fp32; every input gets a gradient.

    With statistics, returns (o, {name: stat_BHT}): `lse` = log sum e^S, for
    softpick log(sum |e^S - 1| + eps e^m) with its row maximum m, and of the
    others, as `statistic` defines them, at most one: `topk` (the mass of the
    `top` largest), `max`, `entropy`, `rms`. All have gradients.

    starts must not fall along T and starts_t <= t: that is not checked, it would
    wait for the device. Raises ValueError for shapes and values that have no
    meaning, NotImplementedError for what these kernels cannot serve.
    """
    if head_first:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    check_tensors(q, k, v, alpha, band, starts)
    options = Options(normaliser, band, window, scale, tuple(statistics), top)
    o, *rows = _attention(q, k, v, alpha, starts, *options.checked(q.shape[3]))
    o = o.transpose(1, 2) if head_first else o
    return (o, options.named(q, rows, starts)) if statistics else o


def row_statistics(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    normaliser: str,
    statistics: tuple[str, ...],
    window: int | None = None,
    starts: torch.Tensor | None = None,
    scale: float | None = None,
    top: int | None = None,
) -> dict[str, torch.Tensor]:
    """The statistics alone, {name: stat_BHT}, of what attention_fused would mix
    values with: nothing is mixed, forward or backward, which spares three of its
    seven products. Without the transposed score. Raises what attention_fused raises.
    """
    check_tensors(q, k, k, None, None, starts)
    if not statistics:
        raise ValueError(f"statistics: at least one of {STATISTICS}")
    options = Options(normaliser, None, window, scale, tuple(statistics), top)
    _, *rows = _attention(q, k, None, None, starts, *options.checked(q.shape[3]))
    return options.named(q, rows, starts)


class Options(NamedTuple):
    """What is computed, as a caller says it."""

    normaliser: str
    band: int | None
    window: int | None
    scale: float | None
    statistics: tuple[str, ...]
    top: int | None

    @property
    def concentration(self) -> str | None:
        """The one statistic that is gathered beside the sums."""
        return next((name for name in self.statistics if name != "lse"), None)

    def checked(self, width: int) -> tuple:
        """As the operators take it, for heads of this width. Raises for what has no
        meaning or cannot be served.
        """
        _check_options(self.normaliser, self.band, self.window, self.scale)
        _check_statistics(self.normaliser, self.statistics, self.top)
        scale = 1 / math.sqrt(width) if self.scale is None else self.scale
        kind = self.concentration
        count = {"topk": self.top, "max": 1}.get(kind, 0)
        shape = self.normaliser, self.band, self.window, scale
        return *shape, GATHERED.get(kind), count

    def named(
        self, q: torch.Tensor, rows: list[torch.Tensor], starts: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """{name: stat_BHT} from L and the value that an operator returns for q."""
        (L, value, _), found = rows, {}
        scale = 1 / math.sqrt(q.shape[3]) if self.scale is None else self.scale
        if "lse" in self.statistics:
            found["lse"] = (L * scale).float()
        if self.concentration is not None:
            seen = _seen(q, self.window, starts)
            kind = self.concentration
            found[kind] = _normalised(kind, value, seen)
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


def check_tensors(q, k, v, alpha, band, starts) -> None:
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
    if starts is None:
        return
    if starts.shape != q.shape[:2] or starts.dtype != torch.int32:
        raise ValueError(
            f"starts must be int32 [{q.shape[0]}, {q.shape[1]}], one per query, not "
            f"{starts.dtype} {tuple(starts.shape)}"
        )
    if starts.device != q.device or not starts.is_contiguous():
        raise ValueError(f"starts must be contiguous on {q.device}")


def _check_options(normaliser, band, window, scale) -> None:
    """Raise where a value lies outside its range."""
    if normaliser not in NORMALISERS:
        raise ValueError(f"normaliser {normaliser!r}: one of {NORMALISERS}")
    if band is not None and band < 0:
        raise ValueError(f"band {band}: at least 0 (the diagonal alone)")
    if window is not None and window < 1:
        raise ValueError(f"window {window}: at least 1, the query's own position")
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale {scale}: positive and finite")


def _check_statistics(normaliser, statistics, top) -> None:
    """Raise for statistics that have no meaning or are not gathered."""
    unknown = set(statistics) - set(STATISTICS)
    if unknown:
        raise ValueError(f"statistics {sorted(unknown)}: {STATISTICS}")
    gathered = set(statistics) - {"lse"}
    if len(gathered) > 1:
        raise NotImplementedError(
            f"{sorted(gathered)}: one of them at a time; use the reference"
        )
    if normaliser != "softmax" and gathered & set(OF_SOFTMAX):
        raise ValueError(f"{sorted(gathered)} of {normaliser}: its rows may sum to 0")
    if ("topk" in gathered) != (top is not None):
        raise ValueError("top and the statistic topk belong together")
    if top is not None and not 1 <= top <= MOST:
        raise NotImplementedError(
            f"top {top}: these kernels keep 1 to {MOST}; use the reference"
        )
