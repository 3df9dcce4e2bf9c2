"""What turns q, k, v into head outputs: the implementations behind one name.

Legend: B batch, T tokens, H heads, D head width.
"""

import torch
import torch.nn.functional as F

from kernels.attention import attention as reference_attention

IMPLEMENTATIONS = ("reference", "sdpa")


def resolve(impl: str) -> str:
    """`auto` to the implementation that serves; a name stays as it is."""
    return "sdpa" if impl == "auto" else impl


def attend(
    q_BTHD: torch.Tensor,
    k_BTHD: torch.Tensor,
    v_BTHD: torch.Tensor,
    impl: str,
    dropout: float,
) -> torch.Tensor:
    """o_BTHD of causal softmax attention; dropout on the probabilities.

    Raises ValueError for an implementation that does not exist.
    """
    if impl == "sdpa":
        q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTHD, v_BTHD))
        o_BHTD = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True
        )
        return o_BHTD.transpose(1, 2)
    if impl == "reference":
        o_BTHD, p_BHTT = reference_attention(q_BTHD, k_BTHD, v_BTHD)
        if dropout:
            p_BHTT = F.dropout(p_BHTT, dropout)
            o_BTHD = torch.einsum("bhts,bshd->bthd", p_BHTT, v_BTHD)
        return o_BTHD
    raise ValueError(f"attention implementation {impl!r} is none of {IMPLEMENTATIONS}")
