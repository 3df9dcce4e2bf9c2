"""A step that prunes reaches its sparsity, and what is pruned stays zero."""

from dataclasses import replace

import torch

from gpt2.check.subject import Subject, require
from gpt2.model import GPT
from gpt2.pruning import Pruner, build

# Steps of the whole schedule, and those trained in all: a SPAM reset may put
# the last update off.
SCHEDULE = 12
STEPS = 24


def reaches_its_sparsity(subject: Subject) -> None:
    """A schedule ends at its sparsity, counted on the weights, to one weight.

    Pruned weights and their optimizer state are zero after every step, live
    ones train, nothing outside the blocks' matrices is pruned.
    """
    if subject.settings.pruning.kind != "none":
        sparsity(subject)


def sparsity(subject: Subject) -> float:
    """The share of zeros that the step's schedule, squeezed into 12 steps, leaves
    in the blocks' matrices of the small model. Raises Broken.
    """
    model = subject.build()
    matrices = {
        name: p
        for name, p in model.named_parameters()
        if name.startswith("h.") and p.dim() == 2
    }
    optimizer = subject.optimizer(model)
    settings = replace(subject.settings.pruning, frequency=1)
    pruner = build(model, optimizer, settings, subject.settings.optim)
    require(
        list(pruner.masks) == list(matrices),
        f"masks cover other parameters than the blocks' matrices: "
        f"{sorted(pruner.masks.keys() ^ matrices.keys())}",
    )
    for step in range(1, STEPS + 1):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        subject.loss(model, seed=step).backward()
        optimizer.step()
        pruner.after_step(step, min(step / SCHEDULE, 1.0))
        _zero(model, optimizer, pruner)
        _trained(model, before, pruner)
    zeros = sum(int((p == 0).sum()) for p in matrices.values())
    total = sum(p.numel() for p in matrices.values())
    require(
        abs(zeros - settings.sparsity * total) <= 1,
        f"{zeros} of {total} weights are zero in the end, CONFIG_PRUNING_SPARSITY="
        f'"{settings.sparsity:g}" asks for {settings.sparsity * total:.0f}',
    )
    return zeros / total


def _zero(model: GPT, optimizer: torch.optim.Optimizer, pruner: Pruner) -> None:
    """Pruned weights and every state of their shape are exactly zero."""
    parameters = dict(model.named_parameters())
    for name, mask in pruner.masks.items():
        p = parameters[name]
        require(not p[mask].any(), f"{name}: a pruned weight is not zero")
        for key, value in optimizer.state[p].items():
            if torch.is_tensor(value) and value.shape == p.shape:
                require(
                    not value[mask].any(),
                    f"{name}: {key} of a pruned weight is not zero",
                )


def _trained(model: GPT, before: dict[str, torch.Tensor], pruner: Pruner) -> None:
    """The step changed every parameter, beyond what was pruned."""
    for name, p in model.named_parameters():
        live = ~pruner.masks[name] if name in pruner.masks else torch.ones_like(p) > 0
        changed = bool((p != before[name])[live].any())
        require(changed or not live.any(), f"{name}: its live weights do not train")
