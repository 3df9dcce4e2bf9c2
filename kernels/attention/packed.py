"""Fused causal attention on the output of a fused projection.

The gradients of q, k and v are written into one tensor, as the projection's
backward products want it: nothing is joined.

Legend: B batch, T positions, H query heads, G key/value heads, N = H + 2 G, D head
width.
"""

import torch

from kernels.attention.fused import check_tensors, dense, fakes, filled, named
from kernels.attention.spec import AttentionSpec, Variant
from kernels.operators import differentiable, fake, operator


@operator("attention_packed")
def _packed(
    qkv: torch.Tensor,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    heads: int,
    *variant: Variant,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """o, L, the statistic, its cut; what there is not is empty."""
    from kernels.attention import launch

    launch.require(qkv.device)
    q, k, v = parts(qkv, heads)
    return filled(q, launch.forward(q, k, v, alpha, starts, Variant(*variant)))


@fake(_packed)
def _(qkv, alpha, starts, heads, *variant):
    return fakes(parts(qkv, heads)[0], True, Variant(*variant).statistic)


@operator("attention_packed_backward")
def _packed_backward(
    do: torch.Tensor,
    dL: torch.Tensor | None,
    dvalue: torch.Tensor | None,
    qkv: torch.Tensor,
    o: torch.Tensor,
    L: torch.Tensor,
    value: torch.Tensor,
    cut: torch.Tensor,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    heads: int,
    *variant: Variant,
) -> tuple[torch.Tensor, torch.Tensor]:
    """dqkv, and dalpha, empty where there is no alpha."""
    from kernels.attention import launch

    asked = Variant(*variant)
    dqkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    into = launch.Gradients(*parts(dqkv, heads))
    cut = cut if asked.statistic == "mass" else None
    given = dense(do), dL, dvalue, *parts(qkv, heads), o, L, value, cut, alpha, starts
    return filled(qkv, (dqkv, launch.backward(*given, asked, into)))


@fake(_packed_backward)
def _(do, dL, dvalue, qkv, o, L, value, cut, alpha, starts, heads, *_):
    dalpha = None if alpha is None else alpha.new_empty(alpha.shape)
    return filled(qkv, (qkv.new_empty(qkv.shape), dalpha))


def _setup(ctx, inputs, output):
    qkv, alpha, starts, ctx.heads, *variant = inputs
    ctx.variant = Variant(*variant)
    ctx.save_for_backward(qkv, *output, alpha, starts)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dL, dvalue, _):
    qkv, o, L, value, cut, alpha, starts = ctx.saved_tensors
    do = torch.zeros_like(o) if do is None else do
    dvalue = None if ctx.variant.statistic is None else dvalue
    given = do, dL, dvalue, qkv, o, L, value, cut, alpha, starts
    dqkv, dalpha = _packed_backward(*given, ctx.heads, *ctx.variant)
    dalpha = None if alpha is None else dalpha
    return dqkv, dalpha, None, None, *(None,) * len(ctx.variant)


differentiable(_packed, _backward, _setup)


def parts(qkv_BTND: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """q_BTHD, k_BTGD, v_BTGD, as views."""
    shared = (qkv_BTND.shape[2] - heads) // 2
    return qkv_BTND.split((heads, shared, shared), dim=2)


def attention_packed(
    qkv_BTND: torch.Tensor, heads: int, spec: AttentionSpec
) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """attention_fused of q = qkv[:, :, :H], then G heads of k and G of v, H = heads.
    Raises what attention_fused raises, and ValueError where the heads are not H + 2 G.
    """
    N, D = qkv_BTND.shape[2:]
    if heads < 1 or N <= heads or (N - heads) % 2 != 0:
        raise ValueError(f"{N} heads are not {heads} queries and equally many k and v")
    q, k, v = parts(qkv_BTND, heads)
    check_tensors(q, k, v, spec)
    options = *spec.flat(D), *spec.gathered()
    o, *rows = _packed(qkv_BTND, spec.alpha, spec.starts, heads, *options)
    return (o, named(spec, q, rows)) if spec.statistics else o
