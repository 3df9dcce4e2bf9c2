"""The op: chunk by chunk, the loss and both gradients in one pass.

Legend: N tokens, n tokens of a chunk, E width, V vocabulary rows.
"""

import torch

from kernels.operators import differentiable, fake, operator

# Logits of so many tokens exist at a time: 1.6 GB in bf16 at V = 50,304.
CHUNK_ROWS = 16384


def linear_cross_entropy(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> torch.Tensor:
    """mean_n (log Σ_v e^{x_n · w_v} − x_n · w_{target_n}), an fp32 scalar.

    The gradients of x and of the weight are made with the loss, chunk by chunk,
    since d loss / d logits = (softmax − onehot) / N needs nothing from later; the
    backward pass scales them. Logits and their gradient share one buffer of at
    most CHUNK_ROWS x V in the dtype of x (the idea is Liger's, 2410.10989); the
    weight's gradient is summed in fp32. Under autocast x and the weight are cast
    as for a linear layer. Raises ValueError for shapes or dtypes that do not fit.
    """
    x_NE, weight_VE = _fitting(x_NE, weight_VE, target_N)
    needed = x_NE.requires_grad or weight_VE.requires_grad
    if torch.is_grad_enabled() and needed:
        return _with_gradients(x_NE, weight_VE, target_N)[0]
    return _alone(x_NE, weight_VE, target_N)


@torch.no_grad()
def chunked_losses(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean as `linear_cross_entropy` without gradients gives it, bit for bit, and
    loss_N, of which it is the mean, in fp32. Raises what that raises.
    """
    return _each(*_fitting(x_NE, weight_VE, target_N), target_N)


def _fitting(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """x and the weight in the type of the product."""
    if x_NE.dim() != 2 or x_NE.shape[1] != weight_VE.shape[1]:
        raise ValueError(f"x {tuple(x_NE.shape)} for weight {tuple(weight_VE.shape)}")
    if target_N.shape != x_NE.shape[:1] or target_N.dtype != torch.long:
        raise ValueError(
            f"targets {tuple(target_N.shape)} {target_N.dtype} for {len(x_NE)} tokens"
        )
    kind = x_NE.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x_NE, weight_VE = x_NE.to(dtype), weight_VE.to(dtype)
    if x_NE.dtype != weight_VE.dtype:
        raise ValueError(f"x is {x_NE.dtype}, the weight {weight_VE.dtype}")
    return x_NE, weight_VE


@operator("linear_cross_entropy")
def _alone(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> torch.Tensor:
    return _each(x_NE, weight_VE, target_N)[0]


@fake(_alone)
def _(x_NE, weight_VE, target_N):
    return x_NE.new_empty((), dtype=torch.float32)


@operator("linear_cross_entropy_gradients")
def _with_gradients(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    total = torch.zeros((), dtype=torch.float32, device=x_NE.device)
    dx_NE = torch.empty_like(x_NE, memory_format=torch.contiguous_format)
    dweight_VE = torch.zeros(
        weight_VE.shape, dtype=torch.float32, device=weight_VE.device
    )
    done = 0
    for x_nE, target_n in _chunks(x_NE, target_N):
        logits_nV = x_nE @ weight_VE.t()
        total += _rows(logits_nV, target_n, 1 / len(x_NE), True).sum()
        last = done + len(x_nE)
        torch.mm(logits_nV, weight_VE, out=dx_NE[done:last])
        _add_product(dweight_VE, logits_nV.t(), x_nE)
        done = last
    return total / len(x_NE), dx_NE, dweight_VE.to(weight_VE.dtype)


@fake(_with_gradients)
def _(x_NE, weight_VE, target_N):
    loss = x_NE.new_empty((), dtype=torch.float32)
    return loss, x_NE.new_empty(x_NE.shape), torch.empty_like(weight_VE)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*output[1:])


def _backward(ctx, upstream, *_):
    dx_NE, dweight_VE = ctx.saved_tensors
    upstream = upstream.to(dx_NE.dtype)
    return upstream * dx_NE, upstream * dweight_VE, None


differentiable(_with_gradients, _backward, _save)


def _each(
    x_NE: torch.Tensor, weight_VE: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean, and loss_N."""
    total, kept = torch.zeros((), dtype=torch.float32, device=x_NE.device), []
    for x_nE, target_n in _chunks(x_NE, target_N):
        kept.append(_rows(x_nE @ weight_VE.t(), target_n, 1.0, False))
        total += kept[-1].sum()
    return total / len(x_NE), torch.cat(kept)


def _chunks(x_NE: torch.Tensor, target_N: torch.Tensor):
    return zip(x_NE.split(CHUNK_ROWS), target_N.split(CHUNK_ROWS))


def _add_product(sum_VE: torch.Tensor, a_Vn: torch.Tensor, b_nE: torch.Tensor) -> None:
    """sum += a b in fp32; on a GPU inside the product."""
    if sum_VE.is_cuda and a_Vn.dtype != torch.float32:
        torch.addmm(sum_VE, a_Vn, b_nE, out_dtype=torch.float32, out=sum_VE)
    else:
        sum_VE += a_Vn @ b_nE


def _rows(
    logits_nV: torch.Tensor, target_n: torch.Tensor, scale: float, gradient: bool
) -> torch.Tensor:
    """loss_n; with `gradient` the logits become scale · (softmax − onehot)."""
    if logits_nV.is_cuda:
        from kernels.linear_cross_entropy.kernel import rows

        return rows(logits_nV, target_n, scale, gradient)
    x_nV = logits_nV.float()
    # Relative to the largest: x − lse loses the digits of a large lse.
    top_n1 = x_nV.amax(dim=1, keepdim=True)
    e_nV = (x_nV - top_n1).exp()
    total_n1 = e_nV.sum(dim=1, keepdim=True)
    loss_n1 = total_n1.log() + (top_n1 - x_nV.gather(1, target_n[:, None]))
    if gradient:
        e_nV /= total_n1
        e_nV.scatter_add_(1, target_n[:, None], -torch.ones_like(total_n1))
        logits_nV.copy_(e_nV.mul_(scale))
    return loss_n1[:, 0]
