"""What computes an attention: from queries, keys and values to head outputs.

Each core takes one `AttentionSpec` (kernels/attention/spec.py): score, normaliser, who
sees whom. They compute the same, and differ in what they can serve and in speed;
gpt2/model/mixers/attention/impl.py chooses.

Legend: B batch, n new tokens, S tokens so far, T tokens of a sequence, H heads, G
key/value heads, D head width.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from gpt2.model.mixers.attention import torch_attention
from gpt2.model.mixers.attention.gates import CrossTokenGate
from gpt2.model.values import Routed
from kernels.attention import mix, normalise, reciprocal, scores, visible
from kernels.attention.spec import AttentionSpec

Memory = tuple[torch.Tensor, ...]
Dropout = Callable[[torch.Tensor], torch.Tensor]


class CoreOutput(NamedTuple):
    """Head outputs; from the reference the final probabilities and the number of keys
    each query sees (seen_Bn with documents); from our kernels, where the MLP routes,
    the largest of the probabilities.
    """

    o_BnHD: torch.Tensor
    p_BHnS: torch.Tensor | None = None
    seen_n: torch.Tensor | None = None
    routed: Routed | None = None


def reference(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    dropout: Dropout,
) -> CoreOutput:
    """All tokens in plain torch, with the T x T matrix."""
    s_BHTT = scores(q_BTHD, k_BTGD)
    if spec.alpha is not None:
        s_BHTT = s_BHTT + transposed(q_BTHD, k_BTGD, q_BTHD.shape[1], spec)
    mixed = partial(mix, v_BSGD=v_BTGD)
    return finish(s_BHTT, mixed, spec, gate, dropout)


def decode_reference(
    s_BHnS: torch.Tensor,
    mixed: Callable[[torch.Tensor], torch.Tensor],
    queries_BwHD: torch.Tensor | None,
    k_BnGD: torch.Tensor | None,
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    dropout: Dropout,
) -> CoreOutput:
    """New tokens against everything cached, in plain torch; any number of them. s: the
    scores; mixed: what probabilities become; queries and k: the last W queries and the
    new keys, for the transposed score.
    """
    if spec.alpha is not None:
        r_BHnS = transposed(queries_BwHD, k_BnGD, s_BHnS.shape[3], spec)
        s_BHnS = s_BHnS + r_BHnS
    return finish(s_BHnS, mixed, spec, gate, dropout)


def transposed(
    q_BwHD: torch.Tensor, k_BnGD: torch.Tensor, total: int, spec: AttentionSpec
) -> torch.Tensor:
    """α_h q_s · k_t inside the band, r_BHnS."""
    r_BHnS = reciprocal(q_BwHD, k_BnGD, total, spec.band)
    return spec.alpha[:, None, None] * r_BHnS


def finish(
    s_BHnS: torch.Tensor,
    mixed: Callable[[torch.Tensor], torch.Tensor],
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    dropout: Dropout,
) -> CoreOutput:
    """Scores to head outputs: normaliser, RA-CT, dropout, values."""
    mask_nS = visible(*s_BHnS.shape[2:], spec.window, s_BHnS.device, spec.starts)
    p_BHnS, factor_BHn = normalise(s_BHnS, mask_nS, spec.normaliser), None
    if gate is not None:
        factor_BHn = gate(p_BHnS, mask_nS)
        if gate.apply_to == "weights":
            s_BHnS = factor_BHn[..., None] * s_BHnS
            p_BHnS, factor_BHn = normalise(s_BHnS, mask_nS, spec.normaliser), None
    o_BnHD = mixed(dropout(p_BHnS))
    if factor_BHn is not None:
        o_BnHD = o_BnHD * _per_query(factor_BHn)
    seen_n = mask_nS.sum(dim=-1)
    seen_n = seen_n if spec.starts is None else seen_n[:, 0]
    return CoreOutput(o_BnHD, p_BHnS, seen_n)


def sdpa(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    spec: AttentionSpec,
    dropout: float,
) -> CoreOutput:
    """Plain softmax attention by torch's fused op. dropout: its probability now."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTGD, v_BTGD))
    mask_TT, T = None, q.shape[2]
    if spec.window is not None or spec.starts is not None:
        mask_TT = visible(T, T, spec.window, q.device, spec.starts)
    with torch_attention.sdpa(q, mask_TT):
        o_BHTD = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask_TT,
            dropout_p=dropout,
            is_causal=mask_TT is None,
            enable_gqa=k.shape[1] != q.shape[1],
        )
    return CoreOutput(o_BHTD.transpose(1, 2))


def flex(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    spec: AttentionSpec,
) -> CoreOutput:
    """Plain softmax attention by FlexAttention."""
    o_BTHD = torch_attention.flex(q_BTHD, k_BTGD, v_BTGD, spec.window, spec.starts)
    return CoreOutput(o_BTHD)


def triton(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    routed_k: int | None,
) -> CoreOutput:
    """All tokens by our own kernels. routed_k: keys that the MLP routes by, None: it
    does not.
    """
    from kernels.attention.fused import attention_fused, row_statistics

    if gate is not None and gate.apply_to == "weights":
        wanted = spec._replace(statistics=(gate.kind,), top=gate.k)
        rows = row_statistics(q_BTHD, k_BTGD, wanted)
        # A scale of the scores of a row is a scale of its query.
        q_BTHD = (_per_query(gate.factor(rows[gate.kind])) * q_BTHD).to(q_BTHD)
    attend = partial(attention_fused, q_BTHD, k_BTGD, v_BTGD)
    return _fused(attend, q_BTHD, k_BTGD, spec, gate, routed_k)


def packed(
    qkv_BTND: torch.Tensor,
    heads: int,
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    routed_k: int | None,
) -> CoreOutput:
    """The same, of a fused projection read in place; the gate not of weights."""
    from kernels.attention.packed import attention_packed, parts

    attend = partial(attention_packed, qkv_BTND, heads)
    q_BTHD, k_BTGD, _ = parts(qkv_BTND, heads)
    return _fused(attend, q_BTHD, k_BTGD, spec, gate, routed_k)


def _fused(
    attend: Callable,
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    spec: AttentionSpec,
    gate: CrossTokenGate | None,
    routed_k: int | None,
) -> CoreOutput:
    """Any score, normaliser and pattern; RA-CT from the statistics that the kernels
    gather, the routing from their row sums.
    """
    from kernels.topk_routing.op import topk_routing

    if spec.alpha is not None:
        spec = spec._replace(alpha=spec.alpha.float())
    gate = gate if gate is not None and gate.apply_to == "output" else None
    wanted, top = ("lse",) * (routed_k is not None), None
    if gate is not None:
        wanted, top = (*wanted, gate.kind), gate.k
    found = attend(spec._replace(statistics=wanted, top=top))
    o_BTHD, rows = found if wanted else (found, {})
    if gate is not None:
        o_BTHD = o_BTHD * _per_query(gate.factor(rows[gate.kind]))
    routed = None
    if routed_k is not None:
        routed = Routed(*topk_routing(q_BTHD, k_BTGD, rows["lse"], routed_k, spec))
    return CoreOutput(o_BTHD, routed=routed)


def decode(
    q_BnHC: torch.Tensor,
    k_BSGC: torch.Tensor,
    v_BSGV: torch.Tensor,
    queries_BwHD: torch.Tensor | None,
    k_BnGD: torch.Tensor | None,
    spec: AttentionSpec,
) -> torch.Tensor:
    """c_BnHV of a few new tokens against everything cached, by our own kernels
    (gpt2/model/mixers/attention/decoder.py).
    """
    from kernels.decode import attention_decode

    if spec.alpha is not None:
        spec = spec._replace(alpha=spec.alpha.float())
    return attention_decode(q_BnHC, k_BSGC, v_BSGV, spec, queries_BwHD, k_BnGD)


def _per_query(factor_BHn: torch.Tensor) -> torch.Tensor:
    """factor_BnH1, for x_BnHD."""
    return factor_BHn.transpose(1, 2)[..., None]
