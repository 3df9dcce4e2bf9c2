"""The step of AdamW and AdamWSPAM in torch's foreach operations."""

import torch

Tensors = list[torch.Tensor]


def square_sum(grads: Tensors, masks: Tensors | None = None) -> torch.Tensor:
    """Σ g² over the elements that no mask marks; fp32, without dimensions."""
    values = prepared(grads, masks, None, torch.float32)
    return torch.stack(torch._foreach_norm(values)).square().sum()


def step(
    params: Tensors,
    grads: Tensors,
    m: Tensors,
    v: Tensors,
    *,
    theta: float,
    keep: float,
    beta1: float,
    beta2: float,
    size: float,
    root: float,
    eps: float,
    scale: torch.Tensor | None = None,
    masks: Tensors | None = None,
    copies: Tensors | None = None,
) -> None:
    """One step, in place; the gradients are left as they are.

    0. g ← scale · g, and 0 where a mask is True.
    1. theta > 0: g ← sign(g) √(θ v) where g² > θ v and v > 0.
    2. p ← keep · p,  m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g².
    3. p ← p − size · m / (√v / root + ε); root: √(1 − β₂ⁿ).
    4. copies ← p, rounded.

    params, m, v: fp32; grads: fp32, or bf16 as read; copies: bf16; masks: bool.
    """
    grads = prepared(grads, masks, scale, params[0].dtype)
    if theta > 0:
        grads = clipped(grads, v, theta)
    # The operations of torch's foreach AdamW, in its order.
    if keep != 1:
        torch._foreach_mul_(params, keep)
    torch._foreach_lerp_(m, grads, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
    below = torch._foreach_sqrt(v)
    torch._foreach_div_(below, [root] * len(below))
    torch._foreach_add_(below, eps)
    torch._foreach_addcdiv_(params, m, below, [-size] * len(below))
    if copies is not None:
        torch._foreach_copy_(copies, params)


def prepared(
    grads: Tensors,
    masks: Tensors | None,
    scale: torch.Tensor | None,
    dtype: torch.dtype,
) -> Tensors:
    """Gradients in a type, times scale, 0 where a mask is True."""
    grads = [g.to(dtype) for g in grads]
    if scale is not None:
        grads = [g * scale for g in grads]
    if masks is not None:
        grads = [g.masked_fill(mask, 0.0) for g, mask in zip(grads, masks)]
    return grads


def clipped(grads: Tensors, v: Tensors, theta: float) -> Tensors:
    """sign(g) √(θ v) where g² > θ v and v > 0, else g; new tensors.

    The bound is ∞ where v = 0: 1 / sign(v) − 1 is ∞ there and 0 elsewhere.
    """
    bounds = torch._foreach_mul(v, theta)
    torch._foreach_sqrt_(bounds)
    unbounded = torch._foreach_sign(v)
    torch._foreach_reciprocal_(unbounded)
    torch._foreach_sub_(unbounded, 1)
    torch._foreach_add_(bounds, unbounded)
    inside = torch._foreach_minimum(grads, bounds)
    torch._foreach_neg_(bounds)
    torch._foreach_maximum_(inside, bounds)
    return inside
