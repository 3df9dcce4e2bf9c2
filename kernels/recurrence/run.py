"""The recurrence by what was chosen to compute it."""

import torch

from kernels.recurrence.chunked import CHUNK, chunks
from kernels.recurrence.op import recurrence

Erase = tuple[torch.Tensor, torch.Tensor]


def run(
    impl: str,
    kind: torch.dtype,
    q_BTHK: torch.Tensor,
    k_BTHK: torch.Tensor,
    v_BTHV: torch.Tensor,
    state_BHKV: torch.Tensor,
    starts_BT: torch.Tensor | None = None,
    log_decay: torch.Tensor | None = None,
    erase: Erase | None = None,
    size: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(o_BTHV in v's type, the last S_BHKV) as `reference.loop` defines them: by our
    kernels where impl is "triton" and the decay is one per head, by `chunks` where it
    is "reference" or the decay is one per channel. kind: what our kernels round q, k,
    v, e and c to; `chunks` takes them as they are. size: tokens of a chunk
    of `chunks`; our kernels have their own.

    Raises what `recurrence` raises, ValueError for another impl.
    """
    if impl not in ("reference", "triton"):
        raise ValueError(f"{impl!r} computes no recurrence: reference, triton")
    its = q_BTHK, k_BTHK, v_BTHV
    if impl == "reference" or (log_decay is not None and log_decay.dim() == 4):
        return chunks(*its, state_BHKV, starts_BT, log_decay, erase, size=size)
    its = (x.to(kind) for x in its)
    erase = None if erase is None else tuple(x.to(kind) for x in erase)
    o, last = recurrence(*its, state_BHKV, starts_BT, log_decay, erase)
    return o.to(v_BTHV.dtype), last
