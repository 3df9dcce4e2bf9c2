"""What the heads of a recurrence forget.

Legend: B batch, T tokens, H heads, K key width, V value width.
"""

import math

import torch

from gpt2.model.mixers.statistic import Statistic, mean
from kernels.recurrence import chunks

BINS = 16
"""Of half-lives: the last one holds what takes 2¹⁴ tokens and more."""


def decay_statistics(
    log_decay: torch.Tensor | None,
    state_BHKV: torch.Tensor,
    tokens: torch.Tensor,
    starts_BT: torch.Tensor | None,
) -> dict[str, Statistic]:
    """state_norm: |S| after the last token, by head; effective_span: the mean over t of
    Σ_{s<=t} exp(Σ_{s<j<=t} g_j), the tokens that a state holds, of its own document and
    the mean of its channels, what the delta rule erases not counted, by head; half_life:
    share of the decays whose half-life ln 2 / -g is below 1 token, 1–2, 2–4, … and, last,
    2¹⁴ or more or none, over all heads.

    log_decay: g, (B, T, H) or (B, T, H, K), None where nothing fades. tokens: (B, T) of
    any kind, for their number.
    """
    B, H, K, _ = state_BHKV.shape
    found = {"state_norm": mean(state_BHKV.double().flatten(2).norm(dim=2))}
    shape_BTHK = *tokens.shape[:2], H, K
    if log_decay is None:
        log_decay = state_BHKV.new_zeros(shape_BTHK[:3])
    ones_BTHK = state_BHKV.new_ones(shape_BTHK)
    nothing_BHK1 = state_BHKV.new_zeros(B, H, K, 1)
    q, k, v = ones_BTHK / K, ones_BTHK, ones_BTHK[..., :1]
    span, _ = chunks(q, k, v, nothing_BHK1, starts_BT, log_decay)
    found["effective_span"] = mean(span[..., 0].transpose(1, 2))
    half_lives = math.log(2) / (-log_decay.double()).clamp(min=1e-30)
    bins = torch.frexp(half_lives).exponent.long().clamp(0, BINS - 1)
    count_N = torch.bincount(bins.flatten(), minlength=BINS).double()
    found["half_life"] = Statistic((count_N, count_N.sum()))
    return found
