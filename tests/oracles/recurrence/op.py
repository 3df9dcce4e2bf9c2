"""The recurrence S_t = D_t S_{t-1} - c_t (e_tᵀ D_t S_{t-1}) + k_t v_tᵀ, o_t = S_tᵀ q_t.

Row by row of the state, from the formula alone. D_t = diag(exp g_t). Legend of the
package: B batch, T tokens, H heads, K key width and V value width of a head; E model
width, D = E/H; S the state, K rows of width V.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tests.oracles.scalars import stacked


class Inputs(NamedTuple):
    """Of one head of one sequence. g: T scalars, T vectors of width K, or None for no
    decay. e, c: T vectors of width K each, or None for no delta.
    """

    q_TK: Tensor
    k_TK: Tensor
    v_TV: Tensor
    g: Tensor | None = None
    e_TK: Tensor | None = None
    c_TK: Tensor | None = None


def begins(starts_T: Sequence[int] | None, T: int, first: int = 0) -> list[bool]:
    """Which of T tokens begin a document. starts_T: the position of the first token of
    every token's document; first: the position of the first of the T tokens. A document
    that began before it goes on: nothing begins there.
    """
    if starts_T is None:
        return [False] * T
    return [int(starts_T[t]) == first + t for t in range(T)]


def step(S: list[Tensor], inputs: Inputs, t: int) -> list[Tensor]:
    """S_t, K rows, from S_{t-1}: decayed, then what e reads is taken back along c, then
    k vᵀ is added.
    """
    K = len(S)
    if inputs.g is not None:
        decay = torch.exp(inputs.g[t])
        S = [(decay if decay.dim() == 0 else decay[i]) * S[i] for i in range(K)]
    if inputs.e_TK is not None:
        read_V = sum(inputs.e_TK[t, i] * S[i] for i in range(K))
        S = [S[i] - inputs.c_TK[t, i] * read_V for i in range(K)]
    return [S[i] + inputs.k_TK[t, i] * inputs.v_TV[t] for i in range(K)]


def head(
    inputs: Inputs, begins_T: Sequence[bool], S_KV: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """(o_t for every t, S_T). S_KV: the state before the first token, 0 if None; where a
    document begins the state before it is 0.
    """
    T, K = inputs.q_TK.shape
    V = inputs.v_TV.shape[1]
    empty = [inputs.v_TV.new_zeros(V) for _ in range(K)]
    S = empty if S_KV is None else [S_KV[i] for i in range(K)]
    outputs = []
    for t in range(T):
        S = step(empty if begins_T[t] else S, inputs, t)
        outputs.append(sum(S[i] * inputs.q_TK[t, i] for i in range(K)))
    return outputs, torch.stack(S)


def recurrence(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    g: Tensor | None = None,
    e_BTHK: Tensor | None = None,
    c_BTHK: Tensor | None = None,
    starts_BT: Tensor | None = None,
    state_BHKV: Tensor | None = None,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """(o_BTHV, S_BHKV) of every head of every sequence; g_BTH or g_BTHK."""
    B, T, H, _ = q_BTHK.shape
    o = [[[None] * H for _ in range(T)] for _ in range(B)]
    S = [[None] * H for _ in range(B)]
    for b in range(B):
        starts_T = None if starts_BT is None else starts_BT[b].tolist()
        for h in range(H):
            tensors = q_BTHK, k_BTHK, v_BTHV, g, e_BTHK, c_BTHK
            of_head = Inputs(*(None if x is None else x[b, :, h] for x in tensors))
            state_KV = None if state_BHKV is None else state_BHKV[b, h]
            outputs, S[b][h] = head(of_head, begins(starts_T, T, first), state_KV)
            for t in range(T):
                o[b][t][h] = outputs[t]
    return stacked(o), stacked(S)
