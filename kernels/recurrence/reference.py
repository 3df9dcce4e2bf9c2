"""The recurrence of linear attention (2006.16236, section 3), in plain torch:

    S_t = S_{t-1} + k_t v_tᵀ,    o_t = S_tᵀ q_t,

where a document begins S is zero. `loop` is the definition, `chunks` the same by matrix
products: within a chunk of C tokens (q kᵀ, causal) v, and q S for what entered it.

Nothing of a later token, or of another document, is ever added, not even to cancel:
outputs do not depend on them in a single bit.

Legend: B batch, T tokens, H heads, K key width, V value width, C chunk.
"""

import torch

CHUNK = 64


def loop(
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(o_BTHV, the last S_BHKV), token by token. starts: the first token of every
    token's document; with it, the state that is handed in is of another one.
    """
    o, S = [], state_BHKV
    for t in range(q_BTHK.shape[1]):
        if starts_BT is not None:
            inside_B = starts_BT[:, t] < t
            S = torch.where(inside_B[:, None, None, None], S, 0.0)
        S = S + k_BTHK[:, t, :, :, None] * v_BTHV[:, t, :, None, :]
        o.append(torch.einsum("bhkv,bhk->bhv", S, q_BTHK[:, t]))
    return torch.stack(o, dim=1), S


def chunks(
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
    size: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `loop` gives, C = size tokens at a time."""
    o, S, T = [], state_BHKV, q_BTHK.shape[1]
    for first in range(0, T, size):
        last = min(first + size, T)
        q, k, v = (x[:, first:last].transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHV))
        t_C = torch.arange(first, last, device=q.device)
        seen, left, entered, kept = t_C[:, None] >= t_C, k, q, S
        if starts_BT is not None:
            starts_B1C = starts_BT[:, None, first:last]
            seen = seen & (starts_B1C[..., None] <= t_C)
            entered = torch.where((starts_B1C < first)[..., None], q, 0.0)
            starts_B111 = starts_B1C[..., -1:, None]
            left = torch.where(starts_B111 <= t_C[:, None], k, 0.0)
            kept = torch.where(starts_B111 < first, S, 0.0)
        A_BHCC = torch.where(seen, q @ k.transpose(2, 3), 0.0)
        o.append(A_BHCC @ v + entered @ S)
        S = kept + left.transpose(2, 3) @ v
    return torch.cat(o, dim=2).transpose(1, 2), S
