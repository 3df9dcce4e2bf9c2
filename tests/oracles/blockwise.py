"""The plain attention and all its gradients a block of queries at a time: what a
T x T matrix has no room for. The formula is the reference's, whose queries are
the last of the positions: block by block the keys up to its last query.
"""

import torch

from kernels.attention.reference import mix, normalise, reciprocal, scores, visible


def blockwise(
    leaves: list[torch.Tensor],
    do_BTHD: torch.Tensor,
    normaliser: str = "softmax",
    band: int | None = None,
    window: int | None = None,
    rows: int = 512,
) -> list[torch.Tensor]:
    """o_BTHD and the gradients of q_BTHD, k_BTGD, v_BTGD and, with a band, alpha_H,
    computed in the dtype of the leaves; gradients are summed over blocks in float64.
    """
    leaves = [x.detach().requires_grad_() for x in leaves]
    grads = [torch.zeros(x.shape, dtype=torch.float64, device=x.device) for x in leaves]
    T, outputs = do_BTHD.shape[1], []
    for first in range(0, T, rows):
        last = min(first + rows, T)
        o = _block(leaves, first, last, normaliser, band, window)
        upstream = do_BTHD[:, first:last].to(o.dtype)
        for total, grad in zip(grads, torch.autograd.grad(o, leaves, upstream)):
            total += grad
        outputs.append(o.detach())
    return [torch.cat(outputs, dim=1), *grads]


def _block(leaves, first, last, normaliser, band, window) -> torch.Tensor:
    q, k, v = (x[:, :last] for x in leaves[:3])
    s = scores(q[:, first:], k)
    if band is not None:
        near = q[:, max(first - band, 0) :]
        r = reciprocal(near, k[:, first:], last, band)
        s = s + leaves[3][:, None, None] * r
    mask = visible(last - first, last, window, q.device)
    return mix(normalise(s, mask, normaliser), v)
