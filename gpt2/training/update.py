"""From the gradients of a step to the weights that the next one reads.

Pruned gradients to zero, norm, clipping, the optimizer's step, bf16 copies: by
torch, one after the other, or in two passes over memory (`one_pass`).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gpt2.distributed.distribution import Distribution
from gpt2.optim import resolve_update
from gpt2.optim.adamwspam import AdamWSPAM
from gpt2.pruning import Pruner
from gpt2.settings.run import OptimSettings

TINY = 1e-6  # what torch's clipping adds to the norm it divides by


class Update:
    """A step by torch's own operations and optimizer.

    clip: the largest norm of the gradient, 0 for none.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        distribution: Distribution,
        pruner: Pruner | None,
        clip: float,
    ):
        self.optimizer, self.pruner = optimizer, pruner
        self.distribution = distribution
        self.clip = clip or math.inf
        self.params = [p for g in optimizer.param_groups for p in g["params"]]

    def collect(self) -> None:
        """After each backward pass: its gradients are added up."""
        self.distribution.weights.collect()

    def step(self) -> torch.Tensor:
        """The step; the norm of the gradient without its pruned part, before
        clipping. Gradients are gone afterwards.
        """
        if self.pruner is not None:
            self.pruner.before_step()
        norm = self.distribution.gradient_norm(self.params)
        torch.nn.utils.clip_grads_with_norm_(self.params, self.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def refresh(self, masked: bool) -> None:
        """What is read follows what was updated; masked: masks changed weights
        after the step.
        """
        self.distribution.refresh(copied=False)


class OnePass(Update):
    """AdamW's or AdamWSPAM's step with everything around it (kernels/adamw).

    Pass 1 sums the squares of the gradients that no mask marks. Pass 2 reads
    gradients (bf16 as the copies left them where `direct`), scales and masks
    them, steps, and writes the copies. Equal to Update but for the rounding of
    the norm, and on a GPU of the compiler's fused products.

    direct: a step has one micro-batch in all ranks, so gradients need no adding up
    in fp32. External movement pruning reads fp32 gradients, so it collects too.
    """

    def __init__(
        self,
        optimizer: AdamWSPAM,
        distribution: Distribution,
        pruner: Pruner | None,
        clip: float,
        direct: bool,
    ):
        super().__init__(optimizer, distribution, pruner, clip)
        self.scored = pruner is not None and bool(pruner.scores)
        self.direct = direct and not self.scored
        copies = {id(master): copy for master, copy in distribution.weights.pairs}
        masks: dict[int, torch.Tensor] = {}
        if pruner is not None and not self.scored:
            masks = {id(w): pruner.masks[name] for name, w in pruner.weights.items()}
        self.lists = [
            _split(g["params"], copies, masks) for g in optimizer.param_groups
        ]

    def collect(self) -> None:
        """After each backward pass; nothing to add up where it is the only one."""
        if not self.direct:
            super().collect()

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """As Update's."""
        if self.scored:
            self.pruner.before_step()
        backend = self.optimizer.backend
        squares = []
        for one in (one for lists in self.lists for one in lists):
            squares.append(backend.square_sum(self._gradients(one), one.masks))
        norm = self.distribution.model_sum(torch.stack(squares).sum()).sqrt()
        scale = None
        if self.clip < math.inf:
            scale = (self.clip / (norm + TINY)).clamp(max=1.0)
        for group, lists in zip(self.optimizer.param_groups, self.lists):
            m, v, scalars = self.optimizer.begin(group)
            for one in lists:
                backend.step(
                    [group["params"][i] for i in one.places],
                    self._gradients(one),
                    [m[i] for i in one.places],
                    [v[i] for i in one.places],
                    scale=scale,
                    masks=one.masks,
                    copies=one.copies,
                    **scalars,
                )
        for one in (one for lists in self.lists for one in lists):
            for tensor in (*one.params, *(one.copies or ())):
                tensor.grad = None
        return norm

    def refresh(self, masked: bool) -> None:
        """The step wrote the copies; masks that changed write them once more."""
        self.distribution.refresh(copied=not masked)

    def _gradients(self, one: "_LaunchGroup") -> list[torch.Tensor]:
        read = one.copies if self.direct and one.copies else one.params
        for tensor in read:
            if tensor.grad is None:
                raise RuntimeError(
                    f"a parameter of shape {tuple(tensor.shape)} has no gradient: "
                    "every parameter takes part in every step"
                )
        return [tensor.grad.contiguous() for tensor in read]


@dataclass
class _LaunchGroup:
    """Parameters of a group that one launch serves: all with copies or none, all
    with masks or none. places: in the group.
    """

    places: list[int]
    params: list[nn.Parameter]
    copies: list[nn.Parameter] | None
    masks: list[torch.Tensor] | None


def _split(
    params: list[nn.Parameter],
    copies: dict[int, nn.Parameter],
    masks: dict[int, torch.Tensor],
) -> list[_LaunchGroup]:
    """A group's parameters in as few lists as can be."""
    places: dict[tuple[bool, bool], list[int]] = {}
    for place, parameter in enumerate(params):
        kind = (id(parameter) in copies, id(parameter) in masks)
        places.setdefault(kind, []).append(place)
    return [
        _LaunchGroup(
            alike,
            [params[i] for i in alike],
            [copies[id(params[i])] for i in alike] if copied else None,
            [masks[id(params[i])] for i in alike] if masked else None,
        )
        for (copied, masked), alike in places.items()
    ]


def build(
    settings: OptimSettings,
    optimizer: torch.optim.Optimizer,
    distribution: Distribution,
    pruner: Pruner | None,
    micro_batches: int,
) -> Update:
    """The update for an optimizer of optim.build, on the device it was built on."""
    kind = optimizer.param_groups[0]["params"][0].device.type
    common: tuple[Any, ...] = (optimizer, distribution, pruner, settings.clip)
    if resolve_update(settings, kind) == "one_pass":
        return OnePass(*common, direct=micro_batches == 1)
    return Update(*common)
