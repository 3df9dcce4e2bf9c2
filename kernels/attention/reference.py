"""Causal attention in plain torch, the definition the fast paths are held to.

Legend: B batch, T tokens, H heads, D head width, t/s query/key position.
"""

import math

import torch


def attention(
    q_BTHD: torch.Tensor, k_BTHD: torch.Tensor, v_BTHD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention under the causal mask.

    S_ts = q_t · k_s / sqrt(D) for s <= t, P = softmax over s, o_t = sum_s P_ts v_s
    (Vaswani et al. 2017, eq. 1). Returns o_BTHD and P_BHTT, both in the inputs'
    dtype. Holds T x T tensors: for tests, statistics and small sizes.
    """
    T, D = q_BTHD.shape[1], q_BTHD.shape[3]
    s_BHTT = torch.einsum("bthd,bshd->bhts", q_BTHD, k_BTHD) / math.sqrt(D)
    hidden_TT = torch.ones(T, T, dtype=torch.bool, device=q_BTHD.device).triu(1)
    p_BHTT = s_BHTT.masked_fill(hidden_TT, -math.inf).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", p_BHTT, v_BTHD), p_BHTT
