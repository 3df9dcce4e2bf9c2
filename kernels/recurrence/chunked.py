"""The recurrence of reference.py by matrix products, C tokens at a time.

Within a chunk that S enters, with P_ij = exp(Σ_{j<m≤i} g_m) ⊙ and W_i = e_iᵀ D_i S_{i-1}:

    W_i + Σ_{j<i} (e_i P_ij c_j) W_j = (e_i P_i) S + Σ_{j<i} (e_i P_ij k_j) v_j,
    o_i = (q_i P_i) S + Σ_{j≤i} (q_i P_ij k_j) v_j − Σ_{j≤i} (q_i P_ij c_j) W_j,

one triangular solve a chunk, for all chunks at once; S alone goes from chunk to chunk.

Nothing of a later token, or of another document, is ever added, not even to cancel:
outputs do not depend on them in a single bit.

Legend: B batch, T tokens, H heads, K key width, V value width, C chunk, N chunks.
"""

from typing import NamedTuple

import torch

from kernels.recurrence.decay import ChannelDecay, HeadDecay, NoDecay
from kernels.recurrence.reference import channels

CHUNK = 64

Decay = HeadDecay | ChannelDecay | NoDecay


def chunks(
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
    log_decay: torch.Tensor | None = None,
    erase: tuple[torch.Tensor, torch.Tensor] | None = None,
    size: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `loop` gives, C = size tokens at a time, and those that are left."""
    o, S, T = [], state_BHKV, q_BTHK.shape[1]
    g_BTHK = None if log_decay is None else channels(log_decay)
    inputs = (q_BTHK, k_BTHK, v_BTHV, g_BTHK, *(erase or (None, None)))
    for first, last, C in ((0, T - T % size, size), (T - T % size, T, T % size)):
        if first < last:
            part = [None if x is None else _folded(x[:, first:last], C) for x in inputs]
            t_NC = torch.arange(first, last, device=q_BTHK.device).unflatten(0, (-1, C))
            masks = _Masks.of(t_NC, starts_BT)
            o_BHNCV, S = _mixed(*part, S, masks)
            o.append(o_BHNCV.flatten(2, 3).transpose(1, 2))
    return torch.cat(o, dim=1), S


def _folded(x_BtHK: torch.Tensor, C: int) -> torch.Tensor:
    """x_BHNCK."""
    return x_BtHK.transpose(1, 2).unflatten(2, (-1, C))


class _Masks(NamedTuple):
    """seen: keys j of query i. strict: those before it. entered: queries that the state
    reaches, left: tokens that the chunk's last one reaches, kept: whether the state does.
    None: all.
    """

    seen: torch.Tensor
    strict: torch.Tensor
    entered: torch.Tensor | None
    left: torch.Tensor | None
    kept: torch.Tensor | None

    @classmethod
    def of(cls, t_NC: torch.Tensor, starts_BT: torch.Tensor | None) -> "_Masks":
        """Of the tokens t."""
        i_C = torch.arange(t_NC.shape[1], device=t_NC.device)
        seen_CC, strict_CC = i_C[:, None] >= i_C, i_C[:, None] > i_C
        if starts_BT is None:
            return cls(seen_CC, strict_CC, None, None, None)
        starts_B1NC = starts_BT[:, None, t_NC]
        same_B1NCC = starts_B1NC[..., None] <= t_NC[:, None]
        entered_B1NC = starts_B1NC < t_NC[:, :1]
        last_B1N1 = starts_B1NC[..., -1:]
        return cls(
            seen_CC & same_B1NCC,
            strict_CC & same_B1NCC,
            entered_B1NC[..., None],
            (last_B1N1 <= t_NC)[..., None],
            (last_B1N1 < t_NC[:, :1])[..., None],
        )


def _mixed(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor | None,
    e: torch.Tensor | None,
    c: torch.Tensor | None,
    S: torch.Tensor,
    masks: _Masks,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(o_BHNCV, the last S_BHKV); q_BHNCK and so on."""
    decay = _decay(g)
    A_qk = torch.where(masks.seen, decay.scores(q, k), 0.0)
    o, moved_BHNKV = A_qk @ v, _left(k, decay, masks).transpose(3, 4) @ v
    if e is None:
        entering, S = _carried(S, moved_BHNKV, decay, masks, None)
        return o + _entered(q, decay, masks) @ entering, S
    A_ek = torch.where(masks.strict, decay.scores(e, k), 0.0)
    A_ec = torch.where(masks.strict, decay.scores(e, c), 0.0)
    A_qc = torch.where(masks.seen, decay.scores(q, c), 0.0)
    right = torch.cat([_entered(e, decay, masks), A_ek @ v], dim=-1)
    solved = torch.linalg.solve_triangular(A_ec, right, upper=False, unitriangular=True)
    of_S_BHNCK, rest_BHNCV = solved.split((e.shape[-1], v.shape[-1]), dim=-1)
    erased = of_S_BHNCK, rest_BHNCV, _left(c, decay, masks).transpose(3, 4)
    entering, S = _carried(S, moved_BHNKV, decay, masks, erased)
    W_BHNCV = of_S_BHNCK @ entering + rest_BHNCV
    return o + _entered(q, decay, masks) @ entering - A_qc @ W_BHNCV, S


def _carried(
    S: torch.Tensor,
    moved_BHNKV: torch.Tensor,
    decay: Decay,
    masks: _Masks,
    erased: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """S on its way through the chunks: what enters each, S_BHNKV, and the last.

    erased: W = of_S S + rest, and c of the tokens that the last one hears of.
    """
    entering, moved = [], moved_BHNKV.unbind(2)
    N = len(moved)
    keeps = [None] * N if masks.kept is None else masks.kept.unbind(2)
    factor = None
    if decay.since is not None:
        factor = decay.since[..., -1, :, None].unbind(2)
    erased = [None] * N if erased is None else list(zip(*(x.unbind(2) for x in erased)))
    for n in range(N):
        entering.append(S)
        kept = S if keeps[n] is None else torch.where(keeps[n], S, 0.0)
        if factor is not None:
            kept = factor[n] * kept
        if erased[n] is not None:
            of_S, rest, left = erased[n]
            kept = kept - left @ (of_S @ S + rest)
        S = kept + moved[n]
    return torch.stack(entering, dim=2), S


def _entered(x_BHNCK: torch.Tensor, decay: Decay, masks: _Masks) -> torch.Tensor:
    """What queries of the state are to it as it enters."""
    x = x_BHNCK if decay.since is None else x_BHNCK * decay.since
    return x if masks.entered is None else torch.where(masks.entered, x, 0.0)


def _left(x_BHNCK: torch.Tensor, decay: Decay, masks: _Masks) -> torch.Tensor:
    """What is left of keys at the chunk's end."""
    x = x_BHNCK if decay.until is None else x_BHNCK * decay.until
    return x if masks.left is None else torch.where(masks.left, x, 0.0)


def _decay(g_BHNCK: torch.Tensor | None) -> Decay:
    if g_BHNCK is None:
        return NoDecay()
    return HeadDecay(g_BHNCK) if g_BHNCK.shape[-1] == 1 else ChannelDecay(g_BHNCK)
