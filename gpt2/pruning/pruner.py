"""The pruner of one run: keeps the masks, updates them, applies them."""

from collections.abc import Callable

import torch
from torch import nn

from gpt2.pruning import schedule
from gpt2.pruning.masks import prune_lowest
from gpt2.settings import PruningSettings

Score = Callable[[torch.Tensor], torch.Tensor]


def covered(model: nn.Module) -> dict[str, nn.Parameter]:
    """The blocks' matrices, by name; no embedding, head, norm or bias."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("h.") and parameter.dim() == 2
    }


class Pruner:
    """Prunes the weights of the blocks' matrices that score lowest.

    All covered weights are ranked together. A pruned weight stays pruned: it
    and its optimizer state are 0 after every step. Sparsity counts masks as a
    fraction of the covered weights, exact to one weight at every update. The
    gradients of pruned weights are computed and count in the gradient norm.

    masks: by parameter name, True where a weight is pruned, on the device of
    the parameter. settling(steps) forbids an update after that many steps.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: PruningSettings,
        score: Score,
        settling: Callable[[int], bool],
    ):
        self.settings, self.optimizer = settings, optimizer
        self.score, self.settling = score, settling
        self.weights = covered(model)
        self.masks = {
            name: torch.zeros_like(weight, dtype=torch.bool)
            for name, weight in self.weights.items()
        }
        self.covered = sum(weight.numel() for weight in self.weights.values())
        self.parameters = sum(p.numel() for p in model.parameters())
        self.pruned = 0

    def after_step(self, steps: int, spent: float) -> None:
        """What follows every optimizer step: new masks when due, then zeros.

        steps: completed ones; spent: the fraction of the budget. Raises
        ArithmeticError for a weight that is not a number.
        """
        count = self.due(steps, spent)
        if count:
            self.update(count)
        self.apply()

    def due(self, steps: int, spent: float) -> int:
        """Weights to prune after so many steps, at this fraction of the budget.

        0 except every `frequency` steps; from the end on the rest is due at
        once; 0 while a reset of the optimizer is settling.
        """
        p = schedule.progress(self.settings.start, self.settings.end, spent)
        if (p < 1 and steps % self.settings.frequency) or self.settling(steps):
            return 0
        target = round(schedule.cubic(self.settings.sparsity, p) * self.covered)
        return max(target - self.pruned, 0)

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Prune `count` more weights; `apply` makes them zero."""
        scores = [self.score(weight) for weight in self.weights.values()]
        prune_lowest(scores, list(self.masks.values()), count)
        self.pruned += count

    @torch.no_grad()
    def apply(self) -> None:
        """Zero the pruned weights and every optimizer state of their shape."""
        if self.pruned == 0:
            return
        for name, weight in self.weights.items():
            mask = self.masks[name]
            weight.masked_fill_(mask, 0.0)
            for value in self.optimizer.state.get(weight, {}).values():
                if torch.is_tensor(value) and value.shape == weight.shape:
                    value.masked_fill_(mask, 0.0)

    def sparsity(self) -> float:
        """Pruned weights as a fraction of the covered ones."""
        return self.pruned / self.covered

    def reached(self) -> dict[str, float]:
        """For the summary: the sparsity of the covered weights and of everything."""
        return {"covered": self.sparsity(), "all": self.pruned / self.parameters}

    def load(self, masks: dict[str, torch.Tensor]) -> None:
        """Take over the masks of a checkpoint.

        Raises ValueError for masks of other parameters or shapes.
        """
        found = {name: tuple(mask.shape) for name, mask in masks.items()}
        wanted = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        if found != wanted:
            odd = sorted(dict(found.items() ^ wanted.items()))
            raise ValueError(f"masks that are missing, unknown or misshapen: {odd}")
        for name, mask in self.masks.items():
            mask.copy_(masks[name])
        self.pruned = sum(int(mask.sum()) for mask in self.masks.values())
