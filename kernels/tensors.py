"""Many tensors in one launch: tables of their addresses, cut into chunks.

A kernel over a list of tensors gets an address per tensor and a chunk per
program: which tensor, and where in it. Launching once for 148 parameters costs
what launching for one does.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

WIDE, FOUR = 16, 4  # bytes, elements


@lru_cache(maxsize=64)
def chunks(
    sizes: tuple[int, ...], block: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tensor of each chunk, its first element, elements of each tensor), int64.

    A tensor of n elements has ceil(n / block) chunks; tensors in order.
    """
    sizes_N = torch.tensor(sizes, dtype=torch.int64)
    counts_N = (sizes_N + block - 1) // block
    tensor_C = torch.arange(len(sizes)).repeat_interleave(counts_N)
    before_N = counts_N.cumsum(0) - counts_N
    start_C = (torch.arange(len(tensor_C)) - before_N[tensor_C]) * block
    return tensor_C.to(device), start_C.to(device), sizes_N.to(device)


@dataclass(frozen=True)
class Table:
    """Lists of tensors as a kernel sees them.

    addresses: one row per list, int64, on the device. sizes: elements of the
    tensors of a list. alignment: 16 where every address is a multiple of 16 bytes
    and every size one of 4 elements, so that a kernel may load four numbers at
    once; else 1.
    """

    addresses: torch.Tensor
    sizes: tuple[int, ...]
    alignment: int


def table(lists: list[list[torch.Tensor]]) -> Table:
    """The table of lists of equally many tensors, of equal sizes, on one device.

    Raises ValueError for a tensor that is not contiguous or of another size than
    its fellows in the other lists.
    """
    sizes = tuple(tensor.numel() for tensor in lists[0])
    for tensors in lists:
        if tuple(tensor.numel() for tensor in tensors) != sizes:
            raise ValueError(f"lists of tensors differ in size: {_shapes(lists)}")
        for tensor in tensors:
            if not tensor.is_contiguous():
                raise ValueError(
                    f"a tensor of shape {tuple(tensor.shape)} and strides "
                    f"{tensor.stride()} is not contiguous"
                )
    rows = [[tensor.data_ptr() for tensor in tensors] for tensors in lists]
    wide = not any(address % WIDE for row in rows for address in row)
    wide = wide and not any(size % FOUR for size in sizes)
    device = lists[0][0].device
    pinned = device.type != "cpu"
    found = torch.tensor(rows, dtype=torch.int64, pin_memory=pinned)
    return Table(found.to(device, non_blocking=True), sizes, WIDE if wide else 1)


def _shapes(lists: list[list[torch.Tensor]]) -> list[list[tuple[int, ...]]]:
    return [[tuple(tensor.shape) for tensor in tensors] for tensors in lists]
