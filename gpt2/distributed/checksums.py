"""Whether all ranks hold the same weights and masks, bit for bit.

Legend: R rows, C all other elements of a tensor's row.
"""

import torch

from gpt2.distributed.ranks import Ranks, RanksError
from gpt2.model.gpt import GPT
from gpt2.pruning import Pruner

ODD = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio, as an int64
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class RanksDiffer(RanksError):
    """Two ranks hold different values of a tensor."""


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


def require_same(ranks: Ranks, model: GPT, pruner: Pruner | None, step: int) -> None:
    """Raise RanksDiffer, on every rank, when a weight, mask or score of a rank
    differs from rank 0's; it names the first. Collective.
    """
    if ranks.alone:
        return
    held = dict(model.named_parameters())
    for kind, tensors in (pruner.state() if pruner else {}).items():
        held |= {f"{kind}.{name}": value for name, value in tensors.items()}
    sums = torch.stack([checksum(tensor) for tensor in held.values()]).tolist()
    everyones = ranks.gather(sums)
    for index, name in enumerate(held):
        for rank, theirs in enumerate(everyones):
            if theirs[index] != everyones[0][index]:
                raise RanksDiffer(
                    f"{name} of rank {rank} differs from rank 0's after step {step}: "
                    "the ranks train different models"
                )
