"""From OptimSettings to a torch optimizer over named parameter groups."""

from collections.abc import Callable

import torch
from torch import nn

from gpt2.optim.spam import AdamWSPAM
from gpt2.settings import OptimSettings


def decayed_names(model: nn.Module) -> set[str]:
    """Parameters that weight decay acts on: the blocks' matrices.

    Norms, biases and embeddings (with the tied head) are left alone.
    """
    return {
        name
        for name, parameter in model.named_parameters()
        if name.startswith("h.") and parameter.dim() >= 2
    }


def build(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimizer; group 0 decays, group 1 does not."""
    decayed = decayed_names(model)
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for n, p in named if n in decayed],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    return BUILDERS[settings.kind](groups, settings)


def _adamw(groups: list[dict], settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamW (1711.05101): p ← p − lr (m̂ / (√v̂ + ε) + λ p), λ only in group 0."""
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


def _adamwspam(groups: list[dict], settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamWSPAM (2501.06842)."""
    return AdamWSPAM(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=0.0,
        theta=settings.spam_theta,
        interval=settings.spam_interval,
        warmup=settings.spam_warmup,
        reset_correction=settings.spam_reset_correction,
    )


BUILDERS: dict[str, Callable[[list[dict], OptimSettings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamwspam": _adamwspam,
}
