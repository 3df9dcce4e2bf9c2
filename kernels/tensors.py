"""Many tensors in one launch: tables of their addresses, cut into chunks.

A kernel over a list of tensors gets an address per tensor and a chunk per
program: which tensor, and where in it. Launching once for 148 parameters costs
what launching for one does.
"""

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


def addresses(lists: list[list[torch.Tensor]]) -> torch.Tensor:
    """Addresses of lists of tensors, row by row; int64, on their device.

    Raises ValueError for a tensor that is not contiguous or of another size than
    its fellows in the other lists.
    """
    for fellows in zip(*lists, strict=True):
        if len({tensor.numel() for tensor in fellows}) > 1:
            shapes = [tuple(tensor.shape) for tensor in fellows]
            raise ValueError(f"tensors that belong together have shapes {shapes}")
    rows = [[_address(tensor) for tensor in tensors] for tensors in lists]
    device = lists[0][0].device
    if device.type == "cpu":
        return torch.tensor(rows, dtype=torch.int64)
    table = torch.tensor(rows, dtype=torch.int64, pin_memory=True)
    return table.to(device, non_blocking=True)


def alignment(lists: list[list[torch.Tensor]]) -> int:
    """16 where every address is a multiple of 16 bytes and every size one of 4
    elements, so that a kernel may load four numbers at once; else 1.
    """
    tensors = [tensor for row in lists for tensor in row]
    wide = all(t.data_ptr() % WIDE == 0 and t.numel() % FOUR == 0 for t in tensors)
    return WIDE if wide else 1


def _address(tensor: torch.Tensor) -> int:
    if not tensor.is_contiguous():
        raise ValueError(
            f"a tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()} is "
            "not contiguous"
        )
    return tensor.data_ptr()
