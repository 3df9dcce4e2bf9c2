"""What every head of an attention does with a window of tokens.

Legend: B batch (one window), T tokens, H heads, G key heads, D head width; t/s
query/key position.
"""

import torch

from gpt2.model.mixers.attention.cores import transposed
from gpt2.model.mixers.attention.gates import CrossTokenGate
from gpt2.model.mixers.statistic import Statistic, gate, mean, per_head
from kernels.attention import normalise, scores, visible
from kernels.attention.spec import AttentionSpec

SINK = 0.3


def head_statistics(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    p_BHTT: torch.Tensor,
    spec: AttentionSpec,
    ra_ct: CrossTokenGate | None,
) -> dict[str, Statistic]:
    """entropy, reciprocity, sink_rate, sparsity, ra_alpha, ra_ct_gate as
    gpt2/model/statistics.py defines them, of final probabilities p.
    """
    s_BHTT, T = scores(q_BTHD, k_BTGD), q_BTHD.shape[1]
    starts_BT = spec.starts
    if starts_BT is None:
        starts_BT = q_BTHD.new_zeros(q_BTHD.shape[:2], dtype=torch.int32)
    mask_B1TT = visible(T, T, spec.window, q_BTHD.device, starts_BT)
    same_B1TT = visible(T, T, None, q_BTHD.device, starts_BT)
    found = {
        "entropy": _entropy(p_BHTT),
        "reciprocity": _reciprocity(s_BHTT, same_B1TT),
        "sink_rate": _sinks(p_BHTT, starts_BT),
        "sparsity": _share(p_BHTT == 0, mask_B1TT),
    }
    if spec.alpha is not None:
        s_BHTT = s_BHTT + transposed(q_BTHD, k_BTGD, T, spec)
        found["ra_alpha"] = mean(spec.alpha[None, :, None])
    if ra_ct is not None:
        ungated_BHTT = normalise(s_BHTT, mask_B1TT, spec.normaliser)
        factor_BHT = ra_ct(ungated_BHTT, mask_B1TT)
        found["ra_ct_gate"] = gate(factor_BHT, ra_ct.alpha)
    return found


def _entropy(p_BHTT: torch.Tensor) -> Statistic:
    """Entropies of the rows that are not all zero, and how many those are."""
    mass_BHT1 = p_BHTT.sum(dim=-1, keepdim=True)
    share_BHTT = p_BHTT / torch.where(mass_BHT1 > 0, mass_BHT1, 1.0)
    return Statistic(
        (per_head(torch.special.entr(share_BHTT)), per_head(mass_BHT1 > 0))
    )


def _share(true_BHTT: torch.Tensor, of_B1TT: torch.Tensor) -> Statistic:
    """How many of the places are true, and how many places there are."""
    total_H = per_head(true_BHTT & of_B1TT)
    return Statistic((total_H, torch.full_like(total_H, of_B1TT.sum().item())))


def _sinks(p_BHTT: torch.Tensor, starts_BT: torch.Tensor) -> Statistic:
    """Queries with p_t0 > SINK, 0 their document's first token, and how many there
    are behind one.
    """
    first_BHT1 = starts_BT.long()[:, None, :, None].expand(-1, p_BHTT.shape[1], -1, 1)
    sunk_BHT = p_BHTT.gather(-1, first_BHT1)[..., 0] > SINK
    t_T = torch.arange(p_BHTT.shape[2], device=p_BHTT.device)
    return _share(sunk_BHT, (t_T > starts_BT)[:, None])


def _reciprocity(s_BHTT: torch.Tensor, same_B1TT: torch.Tensor) -> Statistic:
    """Σ S_ts S_st, Σ S_ts², Σ S_st² over s < t of one document."""
    s_BHTT = s_BHTT.masked_fill(~(same_B1TT | same_B1TT.transpose(2, 3)), 0.0)
    square_BHTT = s_BHTT.square()
    crossed_BHTT = s_BHTT * s_BHTT.transpose(2, 3)
    lower = (crossed_BHTT.tril(-1), square_BHTT.tril(-1), square_BHTT.triu(1))
    return Statistic(tuple(map(per_head, lower)), _cosine)


def _cosine(cross: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return cross / (a * b).sqrt()
