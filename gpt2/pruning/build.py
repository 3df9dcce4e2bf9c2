"""From settings to the pruner of a run."""

import torch
from torch import nn

from gpt2.pruning.pruner import Pruner
from gpt2.settings.run import OptimSettings, PruningSettings


def build(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: PruningSettings,
    optim: OptimSettings,
) -> Pruner | None:
    """The pruner over a model on its device, None when pruning is off."""
    if settings.kind == "none":
        return None
    return Pruner(model, optimizer, settings, optim)
