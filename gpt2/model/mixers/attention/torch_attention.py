"""Plain attention by torch's own kernels, each named: torch's default order is not
asked (on some builds it takes the slower one).

Legend: B batch, T tokens, H query heads, G key/value heads, D head width.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

HALF = (torch.float16, torch.bfloat16)


@cache
def fastest() -> SDPBackend:
    """The fastest of torch's causal attentions in 16 bits on this process' GPU: cuDNN's
    on Hopper and Blackwell (1.4 to 1.6 times as fast as flash on an H100), else flash.
    """
    major = torch.cuda.get_device_capability()[0]
    if torch.version.hip is None and major in (9, 10):
        return SDPBackend.CUDNN_ATTENTION
    return SDPBackend.FLASH_ATTENTION


def sdpa(q: torch.Tensor, mask: torch.Tensor | None) -> AbstractContextManager:
    """Within it SDPA runs one backend, or raises that it cannot: on a GPU `fastest`,
    and for fp32 or a mask the memory-efficient one; on a CPU there is but one.
    """
    if not q.is_cuda:
        return nullcontext()
    if q.dtype in HALF and mask is None:
        return sdpa_kernel(fastest())
    return sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION)


def flex(
    q_BTHD: torch.Tensor,
    k_BTGD: torch.Tensor,
    v_BTGD: torch.Tensor,
    window: int | None,
    starts_BT: torch.Tensor | None,
) -> torch.Tensor:
    """o_BTHD by FlexAttention (2412.05496), whose block mask leaves out what no query
    of a block sees. On a CPU it is torch's unfused form, with the T x T matrix, and
    cannot train: NotImplementedError.
    """
    if not q_BTHD.is_cuda and torch.is_grad_enabled() and q_BTHD.requires_grad:
        raise NotImplementedError(
            f"torch's FlexAttention has no backward pass on {q_BTHD.device.type}: "
            "CONFIG_ATTENTION_IMPL_FLEX trains on a GPU, auto and reference anywhere"
        )
    B, T = q_BTHD.shape[:2]

    def seen(b, h, t, s):
        inside = t >= s
        if window is not None:
            inside = inside & (t - s < window)
        if starts_BT is not None:
            inside = inside & (s >= starts_BT[b, t])
        return inside

    batch = None if starts_BT is None else B
    blocks = create_block_mask(seen, batch, None, T, T, device=q_BTHD.device)
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTGD, v_BTGD))
    function = _compiled() if q.is_cuda else flex_attention
    shared = k.shape[1] != q.shape[1]
    return function(q, k, v, block_mask=blocks, enable_gqa=shared).transpose(1, 2)


@cache
def _compiled():
    return torch.compile(flex_attention, dynamic=False)
