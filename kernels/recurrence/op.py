"""The recurrence with a scalar decay as an operator that autograd and torch.compile
see. Triton is imported when it first runs: fake tensors need none.

Legend: B batch, T tokens, H heads, K key width, V value width.
"""

import torch
import torch.nn.functional as F

from kernels.operators import differentiable, fake, operator
from kernels.recurrence import configs
from kernels.recurrence.configs import WIDEST

SIZES = (16, 32, 64)
"""Chunks that the kernels can work with."""
# Rows of so many elements are read 16 bytes at a time.
MULTIPLE = 8
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Optional = torch.Tensor | None


@operator("recurrence")
def _recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor,
    starts: torch.Tensor | None,
    g: torch.Tensor | None,
    e: torch.Tensor | None,
    c: torch.Tensor | None,
    size: int,
) -> tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
]:
    """o, the last state, and what going back needs: states, b, R, w. An operator
    returns tensors: what there is not is empty.
    """
    from kernels.attention.launch import require
    from kernels.recurrence import launch

    require(q.device)
    given = launch.Inputs(q, k, v, starts, g, e, c, size)
    o, last, kept = launch.forward(given, state)
    return o, last, *_filled(q, kept)


@fake(_recurrence)
def _(q, k, v, state, starts, g, e, c, size):
    (B, T, H, K), V = q.shape, v.shape[3]
    chunks = (T + size - 1) // size
    sums = None if g is None else g.new_empty(B, H, T, 2)
    inverse = answers = None
    if e is not None:
        inverse = q.new_empty(B * H * chunks, size, size)
        answers = v.new_empty(v.shape)
    states = q.new_empty(B, H, chunks, K, V)
    kept = _filled(q, (states, sums, inverse, answers))
    return v.new_empty(v.shape), state.new_empty(state.shape), *kept


@operator("recurrence_backward")
def _recurrence_backward(
    do: torch.Tensor,
    dlast: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    starts: torch.Tensor | None,
    g: torch.Tensor | None,
    e: torch.Tensor | None,
    c: torch.Tensor | None,
    size: int,
    states: torch.Tensor,
    sums: torch.Tensor,
    inverse: torch.Tensor,
    answers: torch.Tensor,
) -> tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
]:
    """dq, dk, dv, dstate, dg, de, dc; empty where there is no input."""
    from kernels.recurrence import launch

    given = launch.Inputs(q, k, v, starts, g, e, c, size)
    sums = None if g is None else sums
    solved = (None, None) if e is None else (inverse, answers)
    kept = launch.Kept(states, sums, *solved)
    return _filled(q, launch.backward(given, kept, do, dlast))


@fake(_recurrence_backward)
def _(do, dlast, q, k, v, starts, g, e, c, size, *kept):
    of = (q, k, v, dlast, g, e, c)
    return _filled(q, tuple(None if x is None else x.new_empty(x.shape) for x in of))


def _filled(q: torch.Tensor, found: tuple) -> tuple[torch.Tensor, ...]:
    """An empty tensor for every None."""
    return tuple(q.new_empty(0) if x is None else x for x in found)


def _setup(ctx, inputs, output):
    q, k, v, _, starts, g, e, c, ctx.size = inputs
    o, last, *kept = output
    ctx.save_for_backward(q, k, v, starts, g, e, c, *kept)
    ctx.shapes = o.shape, last.shape
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dlast, *_):
    q, k, v, starts, g, e, c, *kept = ctx.saved_tensors
    o, last = ctx.shapes
    do = q.new_zeros(o) if do is None else do.contiguous()
    dlast = q.new_zeros(last, dtype=torch.float32) if dlast is None else dlast
    its = q, k, v, starts, g, e, c, ctx.size
    found = _recurrence_backward(do, dlast.contiguous(), *its, *kept)
    dq, dk, dv, dstate, dg, de, dc = found
    dg = None if g is None else dg
    de, dc = (None, None) if e is None else (de, dc)
    return dq, dk, dv, dstate, None, dg, de, dc, None


differentiable(_recurrence, _backward, _setup)


def recurrence(
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
    log_decay: torch.Tensor | None = None,
    erase: tuple[torch.Tensor, torch.Tensor] | None = None,
    size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(o_BTHV in v's type, the last S_BHKV in fp32) of `reference.loop`, by Triton. K
    up to 128, V up to 129; log_decay_BTH ≤ 0. Every input has a gradient. size: tokens
    of a chunk, by default 64 in 16 bits, 16 in fp32.

    Two runs agree bit for bit. Raises ValueError for shapes that do not fit together,
    NotImplementedError for what these kernels cannot serve.
    """
    e, c = (None, None) if erase is None else erase
    _check(q_BTHK, k_BTHK, v_BTHV, state_BHKV, starts_BT, log_decay, e, c)
    size = size or configs.size(q_BTHK.dtype)
    if size not in SIZES:
        raise ValueError(f"size {size}: one of {', '.join(map(str, SIZES))}")
    K, V = q_BTHK.shape[3], v_BTHV.shape[3]
    wide, more = -K % MULTIPLE, -V % MULTIPLE
    q, k, e, c = (_padded(x, wide) for x in (q_BTHK, k_BTHK, e, c))
    state = F.pad(state_BHKV.float(), (0, more, 0, wide)).contiguous()
    g = None if log_decay is None else log_decay.float().contiguous()
    starts = None if starts_BT is None else starts_BT.to(torch.int32).contiguous()
    v = _padded(v_BTHV, more)
    o, last, *_ = _recurrence(q, k, v, state, starts, g, e, c, size)
    return (o[..., :V], last[..., :K, :V]) if wide or more else (o, last)


def _padded(x: Optional, more: int) -> Optional:
    """Contiguous, with so many columns of 0 more."""
    return None if x is None else F.pad(x, (0, more)).contiguous()


def _check(q, k, v, state, starts, g, e, c) -> None:
    """Raise where the tensors do not fit together or cannot be served."""
    B, T, H, K = q.shape
    V = v.shape[3]
    wanted = {"k": (k, (B, T, H, K)), "v": (v, (B, T, H, V))}
    wanted |= {"state": (state, (B, H, K, V)), "starts": (starts, (B, T))}
    wanted |= {"e": (e, (B, T, H, K)), "c": (c, (B, T, H, K))}
    if g is not None and g.shape == (B, T, H, K):
        raise NotImplementedError(
            "a log decay per channel: these kernels have one per head; use "
            "CONFIG_MIXER_IMPL_REFERENCE"
        )
    for name, (x, shape) in (wanted | {"log_decay": (g, (B, T, H))}).items():
        if x is not None and tuple(x.shape) != shape:
            raise ValueError(f"{name} is {tuple(x.shape)}, not {shape}")
    if 0 in (B, T, H):
        raise ValueError(f"q is {tuple(q.shape)}: there are no tokens")
    if K > WIDEST or V > WIDEST + 1:
        raise NotImplementedError(
            f"keys {K} and values {V} wide: these kernels serve {WIDEST} and "
            f"{WIDEST + 1}; use CONFIG_MIXER_IMPL_REFERENCE"
        )
    kinds = {x.dtype for x in (q, k, v, e, c) if x is not None}
    if len(kinds) != 1 or not kinds <= set(DTYPES):
        raise NotImplementedError(
            f"types {', '.join(sorted(map(str, kinds)))}: one of "
            f"{', '.join(map(str, DTYPES))} for q, k, v, e and c"
        )
