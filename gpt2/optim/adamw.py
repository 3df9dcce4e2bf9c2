"""AdamW, torch's own or in one pass."""

import torch

from gpt2.optim.adamwspam import AdamWSPAM
from gpt2.optim.optimizer import MOMENTS, Groups, OptimizerFacts, moment_arguments
from gpt2.settings.run import OptimSettings

FACTS = OptimizerFacts(MOMENTS, MOMENTS, one_pass=True)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Two moments; in one pass where that is asked for."""
    return FACTS


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
    """AdamW (1711.05101): p ← p − lr (m̂ / (√v̂ + ε) + λ p), λ only in group 0.

    In one pass as AdamWSPAM that neither clips nor resets: gpt2/training/update.py
    takes its steps.
    """
    moments = moment_arguments(settings)
    if not one_pass:
        return torch.optim.AdamW(groups, **moments, fused=True)
    return AdamWSPAM(
        groups,
        **moments,
        weight_decay=0.0,
        theta=0.0,
        interval=0,
        warmup=0,
        reset_correction=True,
    )
