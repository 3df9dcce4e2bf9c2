"""Which tokens compression blocks hold, with documents too.

Legend: B batch, T tokens of a row, C compression blocks of a row, G key/value heads,
l tokens of a block, D width.
"""

from typing import NamedTuple

import torch

from kernels.nsa.spec import NsaSpec


class Grid(NamedTuple):
    """Compression blocks of rows that hold documents, in the order of their tokens.

    A document has its own from its first token on, so that all together are C(T) at
    most; places that a row does not fill hold T.

    starts_BT: the first token of every token's document. first_BC: that of every block.
    before_BT: how many blocks begin before the document of a token.
    """

    starts_BT: torch.Tensor
    first_BC: torch.Tensor
    before_BT: torch.Tensor


def grid(starts_BT: torch.Tensor, spec: NsaSpec) -> Grid:
    """The blocks that lie in one document from their first token to their last."""
    B, T = starts_BT.shape
    l, count, starts_BT = spec.length, spec.compressed(T), starts_BT.long()
    t_T = torch.arange(T, device=starts_BT.device)
    last_T = (t_T + l - 1).clamp(max=T - 1)
    whole_BT = (starts_BT[:, last_T] == starts_BT) & (t_T + l <= T)
    opens_BT = whole_BT & ((t_T - starts_BT) % spec.stride == 0)
    upto_BT = opens_BT.long().cumsum(dim=1)
    place_BT = torch.where(opens_BT, upto_BT - 1, count)
    first_BC = starts_BT.new_full((B, count + 1), T)
    first_BC = first_BC.scatter(1, place_BT, t_T.expand(B, T))[:, :count]
    before_BT = (upto_BT - opens_BT.long()).gather(1, starts_BT)
    return Grid(starts_BT, first_BC, before_BT)


def windows(x_BTGD: torch.Tensor, spec: NsaSpec, rows: Grid | None) -> torch.Tensor:
    """The tokens of every block, x_BCGlD. Places that hold no block repeat tokens."""
    l, T = spec.length, x_BTGD.shape[1]
    count = spec.compressed(T)
    if count == 0:
        return x_BTGD[:, :0, :, None].expand(-1, -1, -1, l, -1)
    if rows is None:
        return x_BTGD.unfold(1, l, spec.stride).transpose(3, 4)
    inside_l = torch.arange(l, device=x_BTGD.device)
    token_BCl = (rows.first_BC[..., None] + inside_l).clamp(max=T - 1)
    return gathered(x_BTGD, token_BCl[:, :, None])


def gathered(x_BTGD: torch.Tensor, token_BNgs: torch.Tensor) -> torch.Tensor:
    """x of the tokens token_BNgs, for every key/value head (g = 1: the same tokens for
    all) or for X = g heads that share them in equal parts: (B, N, X or G, s, D).

    Where a gradient is asked for, it is added up in an order that does not change:
    by the rows of a matrix.
    """
    B, T, G, D = x_BTGD.shape
    heads = max(token_BNgs.shape[2], G)
    device = x_BTGD.device
    b_B111 = torch.arange(B, device=device)[:, None, None, None]
    g_X1 = (torch.arange(heads, device=device) // (heads // G))[:, None]
    learns = torch.is_grad_enabled() and x_BTGD.requires_grad
    if not learns and not x_BTGD.is_contiguous():  # the memory of a decode
        return x_BTGD[b_B111, token_BNgs, g_X1]
    row_BNXs = (b_B111 * T + token_BNgs) * G + g_X1
    matrix_RD, row_N = x_BTGD.flatten(0, 2), row_BNXs.flatten()
    if x_BTGD.is_cuda:  # a gather's gradient would be added up by atomics
        found_ND = torch.nn.functional.embedding(row_N, matrix_RD)
    else:
        found_ND = matrix_RD.gather(0, row_N[:, None].expand(-1, D))
    return found_ND.view(*row_BNXs.shape, D)
