"""Adam, torch's own."""

import torch

from gpt2.optim.optimizer import MOMENTS, Groups, OptimizerFacts, moment_arguments
from gpt2.settings.run import OptimSettings

FACTS = OptimizerFacts(MOMENTS, MOMENTS)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Two moments."""
    return FACTS


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
    """Adam (1412.6980) of g + λ p: p ← p − lr m̂ / (√v̂ + ε)."""
    return torch.optim.Adam(groups, **moment_arguments(settings), fused=True)
