"""From tensors to the launches of a recurrence.

`mix` by its arguments, K or V wide; Z: what the state is multiplied with:

    out   x   a   b   y   z   sums over    state
    o     q   k   v   c   w   s ≤ t        before the chunk
    U     e   k   v           s < t        none; R
    Y     c   q   do          s ≥ t        none; Rᵀ
    dq    do  v   k   w   c   s ≤ t        before, transposed
    −de   w'  v   k   w   c   s < t        before, transposed
    dk    v   do  q   w'  e   s ≥ t, s > t gradient after, transposed
    −dc   w   do  q   w'  e   s ≥ t, s > t gradient after, transposed
    dv    k   q   do  e   w'  s ≥ t, s > t gradient after

Legend: as in kernel_tiles.py.
"""

from typing import NamedTuple

import torch

from kernels.launching import blocks_of, launch
from kernels.recurrence import kernel, kernel_solve
from kernels.recurrence.configs import padded, step, tile
from kernels.targets import target_of

Optional = torch.Tensor | None


class Inputs(NamedTuple):
    """Contiguous: q, k, e, c (B, T, H, K) and v (B, T, H, V) of one type, starts (B, T)
    int32, g (B, T, H) fp32, None where there is none; size: C.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    starts: Optional
    g: Optional
    e: Optional
    c: Optional
    size: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """B, T, H, K, V."""
        return *self.q.shape, self.v.shape[3]

    def empty(self, width: int) -> torch.Tensor:
        """(B, T, H, width) in the inputs' type."""
        return self.q.new_empty(*self.q.shape[:3], width)

    def flags(self, decay: bool = True) -> dict:
        """What every kernel is told of them."""
        found = {"DECAY": self.g is not None} if decay else {}
        return found | {"C": self.size, "DOCUMENTS": self.starts is not None}

    def grid(self, columns: int = 1) -> tuple[int, ...]:
        """A program per chunk and head."""
        B, T, H, _, _ = self.shape
        return (B * H * blocks_of(T, self.size), columns)


class Kept(NamedTuple):
    """What going back needs. states: before every chunk; sums: b; inverse: R; answers:
    w. None without a decay, without the delta rule.
    """

    states: torch.Tensor
    sums: Optional
    inverse: Optional
    answers: Optional


def forward(
    given: Inputs, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Kept]:
    """o, the last state, what was kept."""
    sums = None if given.g is None else _sums(given)
    B, T, H, K, V = given.shape
    q, k, v, _, _, e, c, _ = given
    inverse = W = U = None
    if e is not None:
        inverse = _inverse(given, sums)
        W = _solved(given, sums, inverse, e, False)
        U = given.empty(V)
        asked = {"STRICT": True, "SOLVED": True}
        _mix(given, sums, inverse, None, (e, k, v), U, **asked)
    found = _states(given, sums, (k, v, c), (W, U), state, False)
    states, answers, last = found
    o = given.empty(V)
    _mix(given, sums, None, states, (q, k, v, c, answers), o)
    return o, last, Kept(states, sums, inverse, answers)


def backward(
    given: Inputs, kept: Kept, do: torch.Tensor, dlast: torch.Tensor
) -> tuple[Optional, ...]:
    """dq, dk, dv, dstate, dg, de, dc; do contiguous, dlast fp32."""
    B, T, H, K, V = given.shape
    q, k, v, _, g, e, c, _ = given
    states, sums, inverse, w = kept
    X = Y = None
    if e is not None:
        X = _solved(given, sums, inverse, c, True)
        Y = given.empty(V)
        _mix(given, sums, inverse, None, (c, q, do), Y, REVERSED=True, SOLVED=True)
    found = _states(given, sums, (q, do, e), (X, Y), dlast, True)
    grads, dw, dstate = found
    dq, dk, dv = given.empty(K), given.empty(K), given.empty(V)
    de = dc = None
    _mix(given, sums, None, states, (do, v, k, w, c), dq)
    later = {"REVERSED": True, "STRICTER": True}
    _mix(given, sums, None, grads, (v, do, q, dw, e), dk, **later)
    _mix(given, sums, None, grads, (k, q, do, e, dw), dv, **later)
    if e is not None:
        de, dc = given.empty(K), given.empty(K)
        both = {"STRICT": True, "STRICTER": True, "NEGATED": True}
        _mix(given, sums, None, states, (dw, v, k, w, c), de, **both)
        later["NEGATED"] = True
        _mix(given, sums, None, grads, (w, do, q, dw, e), dc, **later)
    dg = None if g is None else _dg(given, kept, do, grads, dw)
    return dq, dk, dv, dstate, dg, de, dc


def _options(given: Inputs, name: str) -> tuple[int, dict]:
    """(columns, what the compiler is told) of a kernel."""
    q = given.q
    choice = tile(target_of(q.device), name, q.dtype, q.shape[3])
    return choice.columns, choice.options


def _sums(given: Inputs) -> torch.Tensor:
    B, T, H, _, _ = given.shape
    sums = given.g.new_empty(B, H, T, 2)
    _, options = _options(given, "sums")
    its = given.g, given.starts, sums, T, H
    launch(kernel_solve.sums, given.grid(), *its, **given.flags(False), **options)
    return sums


def _inverse(given: Inputs, sums: Optional) -> torch.Tensor:
    """R of every chunk, in the inputs' type."""
    _, T, H, K, _ = given.shape
    shape = given.grid()[0], given.size, given.size
    m = given.q.new_empty(shape, dtype=torch.float32)
    columns, options = _options(given, "erased")
    its = given.e, given.c, sums, given.starts, m, T, H
    fixed = {"K": K, "STEP": step(K, columns), **given.flags()}
    launch(kernel_solve.erased, given.grid(), *its, **fixed, **options)
    r = given.q.new_empty(shape)
    _, options = _options(given, "inverse")
    launch(kernel_solve.inverse, given.grid(), m, r, C=given.size, **options)
    return r


def _solved(
    given: Inputs, sums: Optional, r: torch.Tensor, x: torch.Tensor, reverse: bool
) -> torch.Tensor:
    """R (P ⊙ x), or Rᵀ (d ⊙ x)."""
    _, T, H, K, _ = given.shape
    out = torch.empty_like(x)
    columns, options = _options(given, "solved")
    its = x, r, sums, given.starts, out, T, H
    fixed = {"W": K, "STEP": step(K, columns), "REVERSED": reverse, **given.flags()}
    launch(kernel_solve.solved, given.grid(), *its, **fixed, **options)
    return out


def _states(
    given: Inputs,
    sums: Optional,
    pairs: tuple[torch.Tensor, torch.Tensor, Optional],
    solved: tuple[Optional, Optional],
    state: torch.Tensor,
    reverse: bool,
) -> tuple[torch.Tensor, Optional, torch.Tensor]:
    """The state before every chunk, the answers, the state after the last one."""
    B, T, H, K, V = given.shape
    states = given.q.new_empty(B, H, blocks_of(T, given.size), K, V)
    answers = None if given.e is None else given.empty(V)
    last = torch.empty_like(state)
    columns, options = _options(given, "states")
    N = step(V, columns)
    launch(
        kernel.states,
        (B * H, blocks_of(V, N)),
        *pairs,
        *solved,
        state,
        sums,
        given.starts,
        states,
        answers,
        last,
        T,
        H,
        K=K,
        V=V,
        K_PAD=padded(K),
        N=N,
        REVERSED=reverse,
        DELTA=given.e is not None,
        **given.flags(),
        **options,
    )
    return states, answers, last


def _mix(
    given: Inputs,
    sums: Optional,
    r: Optional,
    states: Optional,
    its: tuple[Optional, ...],
    out: torch.Tensor,
    **asked: bool,
) -> None:
    """Fill `out`; its: x, a, b, y, z as in the table above."""
    x, a, b, y, z = (*its, None, None)[:5]
    _, T, H, K, V = given.shape
    columns, options = _options(given, "mix")
    names = ("REVERSED", "STRICT", "STRICTER", "NEGATED", "SOLVED")
    width, N = x.shape[3], step(out.shape[3], columns)
    straight = its[0] is given.q or its[0] is given.k
    launch(
        kernel.mix,
        given.grid(blocks_of(out.shape[3], N)),
        x,
        a,
        b,
        y,
        z,
        states,
        r,
        sums,
        given.starts,
        out,
        T,
        H,
        W=width,
        V=out.shape[3],
        STEP=step(width, columns),
        N=N,
        ACROSS=V if straight else 1,
        DOWN=1 if straight else V,
        SECOND=z is not None,
        ENTERS=states is not None,
        **(dict.fromkeys(names, False) | asked),
        **given.flags(),
        **options,
    )


def _dg(
    given: Inputs, kept: Kept, do: torch.Tensor, grads: torch.Tensor, dw: Optional
) -> torch.Tensor:
    """dg_BTH, fp32."""
    q, k, v, starts, g, e, c, _ = given
    _, T, H, K, V = given.shape
    dg = torch.empty_like(g)
    columns, options = _options(given, "decays")
    launch(
        kernel.decays,
        given.grid(),
        q,
        k,
        v,
        e,
        c,
        kept.answers,
        do,
        dw,
        kept.states,
        grads,
        kept.sums,
        starts,
        dg,
        T,
        H,
        K=K,
        V=V,
        K_PAD=padded(K),
        STEP=columns,
        DELTA=e is not None,
        **given.flags(False),
        **options,
    )
    return dg
