"""The recurrence of linear attention and its kin, token by token: the definition.

    S_t = D_t S_{t-1} − c_t (e_tᵀ D_t S_{t-1}) + k_t v_tᵀ,    o_t = S_tᵀ q_t,

with D_t = diag(exp g_t), g ≤ 0 the log of the decay, 1 where there is none, and without
the middle term where nothing is erased. Linear attention is g = 0 (2006.16236, section
3), the delta rule e = k, c = β k (2406.06484). Where a document begins S is zero.

Legend: B batch, T tokens, H heads, K key width, V value width.
"""

import torch


def loop(
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
    log_decay: torch.Tensor | None = None,
    erase: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(o_BTHV, the last S_BHKV).

    starts: the first token of every token's document; with it, a state that is handed
    in is of another document than the tokens that begin at 0 or later. log_decay: g,
    (B, T, H) of a head or (B, T, H, K) of each of its channels. erase: (e_BTHK, c_BTHK).
    """
    o, S = [], state_BHKV
    for t in range(q_BTHK.shape[1]):
        if starts_BT is not None:
            inside_B = starts_BT[:, t] < t
            S = torch.where(inside_B[:, None, None, None], S, 0.0)
        if log_decay is not None:
            S = torch.exp(channels(log_decay)[:, t, :, :, None]) * S
        if erase is not None:
            e_BHK, c_BHK = (x[:, t] for x in erase)
            S = (
                S
                - c_BHK[..., None] * torch.einsum("bhkv,bhk->bhv", S, e_BHK)[:, :, None]
            )
        S = S + k_BTHK[:, t, :, :, None] * v_BTHV[:, t, :, None, :]
        o.append(torch.einsum("bhkv,bhk->bhv", S, q_BTHK[:, t]))
    return torch.stack(o, dim=1), S


def channels(log_decay: torch.Tensor) -> torch.Tensor:
    """g_BTHK, or g_BTH1 where all channels of a head share it."""
    return log_decay[..., None] if log_decay.dim() == 3 else log_decay
