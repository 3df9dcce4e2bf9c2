"""The pruner of one run: keeps the masks, updates them, applies them."""

import torch
from torch import nn

from gpt2.model.initial import products
from gpt2.optim import facts
from gpt2.pruning import layers, schedule
from gpt2.settings.run import OptimSettings, PruningSettings
from kconf.bind import SettingsError
from kernels import pruning as choice
from kernels.pruning.reference import Source

FOUR = 4  # consecutive inputs that the pattern 2:4 looks at
MASK, SCORE = 1, 4  # bytes of a covered weight


def covered(model: nn.Module) -> dict[str, nn.Parameter]:
    """The blocks' matrices, by name; no embedding, head, norm, bias or filter."""
    return {
        name: parameter
        for name, parameter in products(model).items()
        if name.startswith("h.") and parameter.dim() == 2
    }


def build(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: PruningSettings,
    optim: OptimSettings,
) -> "Pruner | None":
    """The pruner over a model on its device, None when pruning is off."""
    if settings.kind == "none":
        return None
    return Pruner(model, optimizer, settings, optim)


def state_bytes(model: nn.Module) -> dict[str, int]:
    """Of every kind of pruning: bytes of its masks and scores, on any device."""
    weights = sum(weight.numel() for weight in covered(model).values())
    mask, score = MASK * weights, SCORE * weights
    return {"none": 0, "magnitude": mask, "movement": mask + score, "state": mask}


class Pruner:
    """Prunes the weights of the blocks' matrices that score lowest.

    All covered weights are ranked together, live ones only. A pruned weight
    stays pruned: its gradient is 0 from `before_step` on, so it has no part in
    the gradient norm, and it and its optimizer state are 0 after every step.
    Sparsity counts masks as a fraction of the covered weights, exact to one
    weight at every update. With the pattern 2:4 two of every four consecutive
    inputs of a row go, those that score lowest; on the way to that half the
    lowest of them over all matrices go first.

    masks: by parameter name, True where a weight is pruned, on the device of
    the parameter. scores: of external movement pruning, fp32, else empty.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: PruningSettings,
        optim: OptimSettings,
    ):
        """Raises SettingsError for a matrix that the pattern does not fit."""
        self.settings, self.optimizer, self.optim = settings, optimizer, optim
        self.weights = covered(model)
        for name, weight in self.weights.items():
            if settings.pattern == "2:4" and weight.shape[1] % FOUR:
                raise SettingsError(
                    "PATTERN_2_4",
                    True,
                    f"{name} has {weight.shape[1]} inputs, no multiple of {FOUR}",
                )
        self.masks = {
            name: torch.zeros_like(weight, dtype=torch.bool)
            for name, weight in self.weights.items()
        }
        self.scores = {
            name: torch.zeros_like(weight, requires_grad=False)
            for name, weight in self.weights.items()
            if settings.kind == "movement"
        }
        self.choice = choice.on(next(iter(self.weights.values())).device)
        self.covered = sum(weight.numel() for weight in self.weights.values())
        self.parameters = sum(p.numel() for p in model.parameters())
        self.pruned = 0

    @torch.no_grad()
    def before_step(self) -> None:
        """What comes before the gradient is clipped, once the step's is there.

        Gradients of pruned weights become 0; external movement pruning adds
        −w · g to its scores (2005.07683), of live weights alone, since pruned
        ones stay pruned here.
        """
        weights = list(self.weights.values())
        gradients = [weight.grad for weight in weights]
        if self.pruned:
            self.choice.zero(gradients, list(self.masks.values()))
        if self.scores:
            moved = list(self.scores.values())
            torch._foreach_addcmul_(moved, weights, gradients, value=-1.0)

    @torch.no_grad()
    def after_step(self, steps: int, spent: float) -> bool:
        """What follows every optimizer step: new masks when due, and zeros.
        Whether weights changed.

        steps: completed ones; spent: the fraction of the budget. A step of an
        optimizer that treats every weight by itself leaves weight and state at 0
        where the gradient is; Muon's moves all weights of a matrix. Raises
        ArithmeticError for a score that is not a number.
        """
        count = self.due(steps, spent)
        if count:
            self.update(count)
        elif self.pruned and not facts(self.optim).elementwise:
            self.choice.zero(self._values(), list(self.masks.values()))
        else:
            return False
        return True

    def due(self, steps: int, spent: float) -> int:
        """Weights to prune after so many steps, at this fraction of the budget.

        0 except every `frequency` steps; from the end on the rest is due at
        once; 0 while a reset of the optimizer is settling.
        """
        p = schedule.progress(self.settings.start, self.settings.end, spent)
        frequency = self.settings.frequency
        if (p < 1 and steps % frequency) or self.optim.settling(steps):
            return 0
        target = round(schedule.cubic(self.settings.final, p) * self.covered)
        return max(target - self.pruned, 0)

    def update(self, count: int) -> None:
        """Prune `count` more weights: they, and what the optimizer keeps of them
        in their shape, become 0.
        """
        sources, masks = self._sources(), list(self.masks.values())
        if self.settings.criterion == "layer_adaptive":
            self._update_blocks(sources, masks, count)
        else:
            self.choice.prune_lowest(
                self._criterion(),
                sources,
                masks,
                count,
                self.settings.pattern,
                self._zeroed(),
            )
        self.pruned += count

    def _update_blocks(
        self, sources: list[Source], masks: list[torch.Tensor], count: int
    ) -> None:
        """Prune block by block, later blocks more (gpt2/pruning/layers.py)."""
        blocks: dict[str, list[int]] = {}
        for i, name in enumerate(self.weights):
            blocks.setdefault(name.split(".")[1], []).append(i)
        groups = list(blocks.values())
        sizes = [sum(masks[i].numel() for i in group) for group in groups]
        sums = torch.stack([mask.sum() for mask in masks]).tolist()
        pruned = [sum(sums[i] for i in group) for group in groups]
        wanted = layers.shares(sizes, pruned, self.pruned + count)
        zeroed = self._zeroed()
        for group, done, total in zip(groups, pruned, wanted):
            self.choice.prune_lowest(
                self._criterion(),
                [sources[i] for i in group],
                [masks[i] for i in group],
                total - done,
                zeroed=[[tensors[i] for i in group] for tensors in zeroed],
            )

    def _criterion(self) -> str:
        """The name of the score in kernels.pruning."""
        if self.settings.kind == "movement":
            return "given"
        if self.settings.criterion == "layer_adaptive":
            return "gradient_magnitude"
        return self.settings.criterion or "magnitude"

    def _sources(self) -> list[Source]:
        """(w, m, v) of every matrix, or what stands in for them."""
        if self.settings.kind == "movement":
            return [(score, score, score) for score in self.scores.values()]
        if self.settings.kind == "magnitude":
            return [(value, value, value) for value in self._values()]
        states = [self.optimizer.state[weight] for weight in self.weights.values()]
        return [
            (value, state["exp_avg"], state["exp_avg_sq"])
            for value, state in zip(self._values(), states)
        ]

    def _values(self) -> list[torch.Tensor]:
        return [weight.detach() for weight in self.weights.values()]

    def _zeroed(self) -> list[list[torch.Tensor]]:
        """The weights, and every optimizer state of their shape: a list each, in
        the order of the masks.
        """
        states = [self.optimizer.state.get(w, {}) for w in self.weights.values()]
        kinds = [
            name
            for name, value in states[0].items()
            if torch.is_tensor(value) and value.dim() == 2
        ]
        of_optimizer = [[state[name] for state in states] for name in kinds]
        return [self._values(), *of_optimizer]

    def sparsity(self) -> float:
        """Pruned weights as a fraction of the covered ones."""
        return self.pruned / self.covered

    def reached(self) -> dict[str, float]:
        """For the summary: the sparsity of the covered weights and of everything."""
        return {"covered": self.sparsity(), "all": self.pruned / self.parameters}

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint keeps: masks and, of movement pruning, scores."""
        return {"masks": self.masks, "scores": self.scores}

    def load(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Take over the masks and scores of a checkpoint.

        Raises ValueError for those of other parameters, shapes or methods.
        """
        for kind, own in self.state().items():
            given = {name: tuple(value.shape) for name, value in state[kind].items()}
            wanted = {name: tuple(value.shape) for name, value in own.items()}
            if given != wanted:
                odd = sorted(dict(given.items() ^ wanted.items()))
                raise ValueError(
                    f"{kind} that are missing, unknown or misshapen: {odd}"
                )
        for kind, own in self.state().items():
            for name, value in own.items():
                value.copy_(state[kind][name])
        self.pruned = sum(int(mask.sum()) for mask in self.masks.values())
