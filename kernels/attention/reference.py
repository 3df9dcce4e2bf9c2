"""Causal attention in plain torch, the definition the fast paths are held to.

Legend: B batch, n queries, S keys, H query heads, G key/value heads, D head
width, W band, t/s query/key position. The n queries are the last of the S
positions: query i stands at t = S - n + i. In training n = S = T; in decoding
n is the new tokens. Everything is a function of its arguments and holds n x S
tensors: for training where no kernel serves, for decoding, for tests.
"""

import math

import torch
import torch.nn.functional as F

from kernels.attention.spec import NORMALISERS, AttentionSpec

EPS = 1e-6


def visible(
    n: int,
    total: int,
    window: int | None,
    device: torch.device,
    starts_Bn: torch.Tensor | None = None,
) -> torch.Tensor:
    """mask_nS, True where query t sees key s: s <= t, and t - s < window. With the
    first token of every query's document, mask_B1nS: s >= starts_t as well.
    """
    t_n1 = torch.arange(total - n, total, device=device)[:, None]
    back_nS = t_n1 - torch.arange(total, device=device)
    mask_nS = back_nS >= 0
    mask_nS = mask_nS if window is None else mask_nS & (back_nS < window)
    if starts_Bn is None:
        return mask_nS
    same_BnS = torch.arange(total, device=device) >= starts_Bn[..., None]
    return mask_nS & same_BnS[:, None]


def scores(q_BnHD: torch.Tensor, k_BSGD: torch.Tensor) -> torch.Tensor:
    """S_ts = q_t · k_s / sqrt(D) as s_BHnS; head h reads key head h // (H/G)."""
    k_BSHD = _shared(k_BSGD, q_BnHD.shape[2])
    return torch.einsum("bthd,bshd->bhts", q_BnHD, k_BSHD) / math.sqrt(q_BnHD.shape[3])


def reciprocal(
    q_BwHD: torch.Tensor, k_BnGD: torch.Tensor, total: int, band: int
) -> torch.Tensor:
    """The transposed scores R_ts = q_s · k_t / sqrt(D) as r_BHnS.

    q holds the queries of the last w positions, k the keys of the last n; R is
    0 outside 0 <= t - s <= band and where s lies before the queries given,
    which a caller avoids with w >= min(total, n + band).
    """
    w, n = q_BwHD.shape[1], k_BnGD.shape[1]
    k_BnHD = _shared(k_BnGD, q_BwHD.shape[2])
    r_BHnw = torch.einsum("bshd,bthd->bhts", q_BwHD, k_BnHD)
    inside_nw = visible(n, total, band + 1, q_BwHD.device)[:, total - w :]
    r_BHnw = r_BHnw.masked_fill(~inside_nw, 0.0) / math.sqrt(q_BwHD.shape[3])
    return F.pad(r_BHnw, (total - w, 0))


def normalise(
    s_BHnS: torch.Tensor, mask_nS: torch.Tensor, kind: str = "softmax"
) -> torch.Tensor:
    """p_BHnS over the visible keys, 0 elsewhere; fp32 at least.

    softmax; softpick (2504.20966): relu(e^(x-m) - e^(-m)) over
    sum_visible |e^(x-m) - e^(-m)| + eps with m = max(0, max x) held constant;
    softpick_unsafe: the same with m = 0. A masked key is left out of the sum:
    with x = 0 it would count |0|, with x = -inf it would count e^(-m).
    """
    s_BHnS = s_BHnS if s_BHnS.dtype == torch.float64 else s_BHnS.float()
    if kind == "softmax":
        return s_BHnS.masked_fill(~mask_nS, -math.inf).softmax(dim=-1)
    x_BHnS = s_BHnS.masked_fill(~mask_nS, 0.0)
    m_BHn1 = torch.zeros_like(x_BHnS[..., :1])
    if kind == "softpick":
        m_BHn1 = x_BHnS.detach().amax(dim=-1, keepdim=True).clamp(min=0.0)
    elif kind != "softpick_unsafe":
        raise ValueError(f"normaliser {kind!r}: {', '.join(NORMALISERS)}")
    floor_BHn1 = torch.exp(-m_BHn1)
    small = floor_BHn1 * torch.expm1(x_BHnS.clamp(max=1.0))
    large = torch.exp(x_BHnS - m_BHn1) - floor_BHn1
    e_BHnS = torch.where(x_BHnS < 1, small, large).masked_fill(~mask_nS, 0.0)
    return e_BHnS.relu() / (e_BHnS.abs().sum(dim=-1, keepdim=True) + EPS)


def statistic(
    p_BHnS: torch.Tensor, mask_nS: torch.Tensor, kind: str, k: int | None = None
) -> torch.Tensor:
    """How concentrated each row is over its visible keys, stat_BHn.

    topk: mass of the min(k, visible) largest; max; entropy: 1 - H / ln(visible),
    0 where one key is visible; rms: sqrt(sum p^2 / visible).
    """
    count_n = mask_nS.sum(dim=-1)
    if kind == "topk":
        return p_BHnS.topk(min(k, p_BHnS.shape[-1]), dim=-1).values.sum(dim=-1)
    if kind == "max":
        return p_BHnS.max(dim=-1).values
    if kind == "rms":
        return (p_BHnS.square().sum(dim=-1) / count_n).sqrt()
    if kind == "entropy":
        tiny = torch.finfo(p_BHnS.dtype).tiny
        entropy_BHn = -(p_BHnS * p_BHnS.clamp(min=tiny).log()).sum(dim=-1)
        several_n = count_n > 1
        most_n = count_n.clamp(min=2).to(p_BHnS.dtype).log()
        return torch.where(several_n, 1 - entropy_BHn / most_n, 0.0)
    raise ValueError(f"statistic {kind!r}: topk, max, entropy, rms")


def mix(p_BHnS: torch.Tensor, v_BSGD: torch.Tensor) -> torch.Tensor:
    """o_t = sum_s p_ts v_s as o_BnHD, in the values' dtype."""
    v_BSHD = _shared(v_BSGD, p_BHnS.shape[1])
    return torch.einsum("bhts,bshd->bthd", p_BHnS.to(v_BSGD.dtype), v_BSHD)


def attention(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    spec: AttentionSpec,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole op: o_BTHD and p_BHTT as the spec says (2405.04434 has the first term
    alone), alpha in any type. It gathers no statistics: `statistic` takes them of p.
    Raises ValueError for values that have no meaning.
    """
    spec.check()
    T, D = q_BTHD.shape[1::2]
    s_BHTT = scores(q_BTHD, k_BTGD)
    if spec.alpha is not None:
        r_BHTT = reciprocal(q_BTHD, k_BTGD, T, spec.band)
        s_BHTT = s_BHTT + spec.alpha[:, None, None] * r_BHTT
    if spec.scale is not None:
        s_BHTT = spec.scale * math.sqrt(D) * s_BHTT
    mask = visible(T, T, spec.window, q_BTHD.device, spec.starts)
    p_BHTT = normalise(s_BHTT, mask, spec.normaliser)
    return mix(p_BHTT, v_BTGD), p_BHTT


def _shared(x_BSGD: torch.Tensor, heads: int) -> torch.Tensor:
    """Each key/value head repeated for its group of query heads."""
    groups = x_BSGD.shape[2]
    return x_BSGD if groups == heads else x_BSGD.repeat_interleave(heads // groups, 2)
