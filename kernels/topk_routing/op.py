"""The routing as operators that autograd and torch.compile see.

Legend: B batch, T tokens, H query heads, G key heads, D head width, k keys per
query, r width of what is mixed.
"""

import torch

from kernels.attention.fused import check_tensors
from kernels.attention.spec import MOST, AttentionSpec, Variant
from kernels.operators import differentiable, fake, operator


@operator("topk_routing")
def _topk_routing(
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    normaliser: str,
    band: int | None,
    window: int | None,
    scale: float,
    top: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    from kernels.attention.launch import require
    from kernels.topk_routing import launch

    require(q.device)
    variant = Variant(normaliser, band, window, scale, None, top)
    return launch.routing(q, k, lse.contiguous(), alpha, starts, variant)


@fake(_topk_routing)
def _(q, k, lse, alpha, starts, *options):
    shape = *q.shape[:2], options[-1]
    return q.new_empty(shape, dtype=torch.int32), lse.new_empty(shape)


@torch.no_grad()
def topk_routing(
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    top: int,
    spec: AttentionSpec,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(index_BTk int32, weight_BTk fp32) as `routed` defines them, k = top, of the
    probabilities of attention_fused(q, k, …) with this spec, whose statistics and top
    are not looked at; lse_BHT is that statistic of it. They are constants: nothing
    here has a gradient.

    Raises what attention_fused raises, and NotImplementedError for top above 16.
    """
    check_tensors(q, k, k, spec)
    if not 1 <= top <= MOST:
        raise NotImplementedError(f"top {top}: these kernels keep 1 to {MOST}")
    options = *spec.flat(q.shape[3]), top
    return _topk_routing(q, k, lse, spec.alpha, spec.starts, *options)


@operator("routed_mix")
def routed_mix(
    m_BTr: torch.Tensor, index_BTk: torch.Tensor, weight_BTk: torch.Tensor
) -> torch.Tensor:
    """r_t = sum_j weight_tj m_index_tj as r_BTr, summed in fp32; index int32, weight
    fp32, index_t <= t. m has a gradient, the weights are constants.
    """
    from kernels.attention.launch import require
    from kernels.topk_routing import launch

    require(m_BTr.device)
    return launch.mix(m_BTr, index_BTk, weight_BTk)


@fake(routed_mix)
def _(m_BTr, index_BTk, weight_BTk):
    return m_BTr.new_empty(m_BTr.shape)


@operator("routed_mix_backward")
def _routed_mix_backward(
    dr_BTr: torch.Tensor, index_BTk: torch.Tensor, weight_BTk: torch.Tensor
) -> torch.Tensor:
    from kernels.topk_routing import launch

    return launch.mix_back(dr_BTr.contiguous(), index_BTk, weight_BTk)


@fake(_routed_mix_backward)
def _(dr_BTr, index_BTk, weight_BTk):
    return dr_BTr.new_empty(dr_BTr.shape)


def _setup(ctx, inputs, output):
    _, *places = inputs
    ctx.save_for_backward(*places)


def _backward(ctx, dr):
    return _routed_mix_backward(dr, *ctx.saved_tensors), None, None


differentiable(routed_mix, _backward, _setup)
