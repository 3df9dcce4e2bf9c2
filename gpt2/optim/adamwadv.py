"""AdamW with AMSGrad, torch's own."""

import torch

from gpt2.optim.optimizer import MOMENTS, Groups, OptimizerFacts, moment_arguments
from gpt2.settings.run import OptimSettings

AMSGRAD = (*MOMENTS, "max_exp_avg_sq")
FACTS = OptimizerFacts(AMSGRAD, AMSGRAD)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Two moments and the largest second one so far."""
    return FACTS


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
    """AdamW with the largest v so far in place of v (AMSGrad, 1904.09237)."""
    moments = moment_arguments(settings)
    return torch.optim.AdamW(groups, **moments, amsgrad=True, fused=True)
