"""SGD with momentum, torch's own."""

import torch

from gpt2.optim.optimizer import MOMENTUM, Groups, OptimizerFacts
from gpt2.settings.run import OptimSettings

FACTS = OptimizerFacts(MOMENTUM, MOMENTUM)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """A running sum of gradients; none with a momentum of 0."""
    return FACTS if settings.sgd_momentum else OptimizerFacts()


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
    """b ← μ b + g + λ p, p ← p − lr b; Nesterov: p ← p − lr (g + λ p + μ b)."""
    return torch.optim.SGD(
        groups,
        lr=settings.lr,
        momentum=settings.sgd_momentum,
        nesterov=settings.sgd_nesterov,
        fused=True,
    )
