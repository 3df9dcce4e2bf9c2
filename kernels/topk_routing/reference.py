"""Head-mean top-k routing in plain torch, the definition the kernels are held to.

Legend: B batch, T tokens, H heads, r width of what is mixed, k keys per query.
"""

import torch


def routed(p_BHTT: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(index_BTk, weight_BTk): of every row of P = mean_h p the k largest weights,
    largest first, of equals the earliest key first. An entry of weight 0 names key
    0; so does one beyond the T there are.
    """
    mean_BTT = p_BHTT.mean(dim=1)
    ordered = mean_BTT.sort(dim=-1, descending=True, stable=True)
    weight_BTk, index_BTk = ordered.values[..., :k], ordered.indices[..., :k]
    missing = k - weight_BTk.shape[-1]
    weight_BTk = torch.nn.functional.pad(weight_BTk, (0, missing))
    index_BTk = torch.nn.functional.pad(index_BTk, (0, missing))
    return index_BTk.masked_fill(weight_BTk == 0, 0), weight_BTk


def routed_mean(
    m_BTr: torch.Tensor, index_BTk: torch.Tensor, weight_BTk: torch.Tensor
) -> torch.Tensor:
    """r_t = sum_j weight_tj m_index_tj as r_BTr."""
    batch_B11 = torch.arange(len(m_BTr), device=m_BTr.device)[:, None, None]
    m_BTkr = m_BTr[batch_B11, index_BTk.long()]
    return (weight_BTk[..., None].to(m_BTr.dtype) * m_BTkr).sum(dim=2)
