"""Whether all ranks hold the same tensors, bit for bit.

Legend: R rows, C all other elements of a tensor's row.
"""

from collections.abc import Mapping

import torch

from gpt2.distributed.distribution import RanksDiffer
from gpt2.distributed.ranks import Ranks

ODD = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio, as an int64
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def checksum(tensor: torch.Tensor) -> torch.Tensor:
    """One int64 on the tensor's device, modulo 2^64, of the elements' bits b_rc:
    K (Σ_r (2r + 1) Σ_c b_rc) + Σ_c (2c + 1) Σ_r b_rc, K an odd constant.

    A change of one element always changes it. Sums of integers do not depend on
    their order, and nothing of the tensor's size is built.
    """
    bits_RC = tensor.detach().contiguous().view(BITS[tensor.element_size()])
    bits_RC = bits_RC.reshape(tensor.shape[0] if tensor.dim() > 1 else 1, -1)
    rows_R, columns_C = (bits_RC.sum(dim, dtype=torch.int64) for dim in (1, 0))
    return ODD * _weighted(rows_R) + _weighted(columns_C)


def _weighted(sums: torch.Tensor) -> torch.Tensor:
    return (sums * (2 * torch.arange(len(sums), device=sums.device) + 1)).sum()


def require_same(ranks: Ranks, tensors: Mapping[str, torch.Tensor], step: int) -> None:
    """Raise RanksDiffer, on every rank, when a tensor of a rank differs from rank 0's
    of that name; it names the first. Collective; the ranks name the same tensors.
    """
    if ranks.alone:
        return
    sums = torch.stack([checksum(tensor) for tensor in tensors.values()]).tolist()
    sums_of_ranks = ranks.gather(sums)
    for index, name in enumerate(tensors):
        for rank, others in enumerate(sums_of_ranks):
            if others[index] != sums_of_ranks[0][index]:
                raise RanksDiffer(
                    f"{name} of rank {rank} differs from rank 0's after step {step}: "
                    "the ranks train different models"
                )
