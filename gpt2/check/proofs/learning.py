"""A small real model: finite loss, a gradient everywhere, a step that acts."""

import math
from typing import Any

import torch

from gpt2.check.subject import Broken, Subject, block_matrices, require
from gpt2.model.gpt import GPT
from gpt2.optim import decayed_names
from gpt2.settings.run import OptimSettings

# What a first step moves a parameter by at most, for those whose gradient begins then.
FIRST_STEP = 0.02
# A gradient smaller than this share of the largest one is no gradient. In
# float64, where rounding leaves 1e-16 and the faintest gate at its initial
# values some 1e-7.
RELATIVE = 1e-10
REPEATS = 12
RATE = 1e-3


def gradients(subject: Subject) -> None:
    """Every parameter trains: finite loss, finite gradient, none vanishing.

    In float64, per logical matrix where parameters are fused. Named exception:
    the key bias under softmax shifts every score of a row alike, so its gradient
    is zero; it is one slice of the fused bias and not looked at by itself. What is read
    by a matrix that starts at zero (`GPT.late`) has a gradient of 0 and another one
    after a step.
    """
    model = subject.build().double()
    for name, parameter in model.named_parameters():
        require(parameter.requires_grad, f"{name} is frozen (requires_grad is False)")
    late = set(model.late())
    sizes = _sizes_of_loss(subject, model)
    early = sorted(name for name in late if sizes[name])
    require(not early, f"the gradient of {early} is not 0 at the initial values")
    _none_vanishes({n: size for n, size in sizes.items() if n not in late})
    if not late:
        return
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.grad.abs().max().clamp(min=torch.finfo().tiny)
            parameter -= FIRST_STEP * parameter.grad / size
            parameter.grad = None
    _none_vanishes(_sizes_of_loss(subject, model))


def _sizes_of_loss(subject: Subject, model: GPT) -> dict[str, float]:
    loss = subject.loss(model)
    require(math.isfinite(loss.item()), f"the loss is {loss.item()}")
    loss.backward()
    return _gradient_sizes(model)


def _none_vanishes(sizes: dict[str, float]) -> None:
    largest = max(sizes.values())
    for name, size in sizes.items():
        require(
            size > RELATIVE * largest,
            f"the gradient of {name} vanishes: {size:.3g} where the largest is "
            f"{largest:.3g}",
        )


def _gradient_sizes(model: GPT) -> dict[str, float]:
    """Largest absolute gradient per logical matrix and per other parameter."""
    parts = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            raise Broken(f"{name} takes no part in the loss: it has no gradient")
        if not torch.isfinite(parameter.grad).all():
            raise Broken(f"the gradient of {name} is not finite")
        parts[name] = parameter.grad
    covered = set()
    for matrix in model.matrices():
        grad = matrix.parameter.grad
        parts[matrix.name] = grad if matrix.rows is None else grad[matrix.rows]
        covered.add(id(matrix.parameter))
    for name, parameter in model.named_parameters():
        if id(parameter) in covered:
            del parts[name]
    return {name: grad.abs().max().item() for name, grad in parts.items()}


def first_loss(subject: Subject) -> None:
    """Before training, the loss is that of a uniform guess within 10 %."""
    loss = subject.loss(subject.build()).item()
    uniform = math.log(subject.small.model.vocab_rows)
    require(
        abs(loss / uniform - 1) < 0.1,
        f"the loss at the start is {loss:.3f}, a uniform guess has {uniform:.3f}",
    )


def optimizer_as_configured(subject: Subject) -> None:
    """Rates, moments and decay that the optimizer holds are those configured."""
    asked = subject.settings.optim
    groups = subject.optimizer(subject.build()).param_groups
    for group, wanted in zip(groups, _configured(asked), strict=True):
        for key, value in wanted.items():
            found = tuple(group[key]) if key == "betas" else group[key]
            require(found == value, f"the optimizer has {key} {found}, asked: {value}")
    decays = [group["weight_decay"] for group in groups]
    require(
        decays == [asked.weight_decay, 0.0],
        f"the optimizer decays by {decays}, asked: {asked.weight_decay}",
    )


def _configured(asked: OptimSettings) -> list[dict[str, Any]]:
    """What the group that decays and the other one should hold."""
    moments = {"lr": asked.lr, "betas": (asked.beta1, asked.beta2), "eps": asked.eps}
    if asked.kind == "sgd":
        momentum, nesterov = asked.sgd_momentum, asked.sgd_nesterov
        return [{"lr": asked.lr, "momentum": momentum, "nesterov": nesterov}] * 2
    if asked.kind == "muon":
        matrices = {
            "lr": asked.lr,
            "momentum": asked.muon_momentum,
            "nesterov": asked.muon_nesterov,
            "ns_steps": asked.muon_steps,
            "adjust_lr_fn": asked.muon_scale,
        }
        return [matrices, moments]
    if asked.kind == "adamwspam":
        moments["theta"] = asked.spam_theta
        moments["interval"] = asked.spam_interval
        moments["warmup"] = asked.spam_warmup
        moments["reset_correction"] = asked.spam_reset_correction
        return [moments] * 2
    return [{**moments, "amsgrad": asked.kind == "adamwadv"}] * 2


def update(subject: Subject) -> None:
    """One optimizer step changes every parameter, two those whose gradient begins after
    the first (`GPT.late`); decay acts on matrices only.
    """
    model = subject.build()
    optimizer = subject.optimizer(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(2 if any(model.late()) else 1):
        optimizer.zero_grad()
        subject.loss(model).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        require(
            not torch.equal(parameter, before[name]),
            f"an optimizer step leaves {name} as it was",
        )
    if subject.settings.optim.weight_decay:
        _decay(subject)


def _decay(subject: Subject) -> None:
    """With zero gradients a first step is decay alone, on the blocks' matrices."""
    optim = subject.settings.optim
    model = subject.build()
    optimizer = subject.optimizer(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    matrices = decayed_names(model)
    require(
        matrices == block_matrices(model).keys(),
        f"decay acts on other parameters than the blocks' matrices: {sorted(matrices)}",
    )
    for name, parameter in model.named_parameters():
        wanted = before[name]
        if name in matrices:
            wanted = _decayed(wanted, optim)
        require(
            torch.allclose(parameter, wanted, rtol=1e-6, atol=1e-6 * optim.lr),
            f"{name}: decay alone should take it to other values",
        )


def _decayed(p: torch.Tensor, optim: OptimSettings) -> torch.Tensor:
    """A matrix after a first step with zero gradients.

    Decoupled decay: (1 − lr λ) p. SGD: the L2 term λ p is the gradient, and its
    momentum with Nesterov's: (1 − lr λ (1 + μ)) p. Adam: that gradient divided
    by its own size, p − lr λ p / (λ |p| + ε).
    """
    shrink = optim.lr * optim.weight_decay
    if optim.kind == "adam":
        return p - shrink * p / (optim.weight_decay * p.abs() + optim.eps)
    if optim.kind == "sgd" and optim.sgd_nesterov:
        shrink *= 1 + optim.sgd_momentum
    return (1 - shrink) * p


def repeated_batch(subject: Subject) -> None:
    """The loss on one repeated batch falls, at a rate that a small model feels."""
    model = subject.build()
    optimizer = subject.optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    losses = []
    for _ in range(REPEATS):
        loss = subject.loss(model)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    require(
        losses[-1] < losses[0] - 0.01,
        f"{REPEATS} steps on one batch take the loss from {losses[0]:.4f} to "
        f"{losses[-1]:.4f}",
    )
