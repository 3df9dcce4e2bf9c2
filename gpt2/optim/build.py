"""From OptimSettings to a torch optimizer over named parameter groups."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gpt2.optim.muon import MuonAdamW
from gpt2.optim.spam import AdamWSPAM
from gpt2.settings.run import OptimSettings

Groups = list[dict[str, Any]]

ONE_PASS = ("adamw", "adamwspam")


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
    """The optimizer; group 0 decays, group 1 does not.

    The device of the parameters decides how its steps are taken
    (`resolve_update`), so move the model first.
    """
    decayed = decayed_names(model)
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for n, p in named if n in decayed],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    kind = named[0][1].device.type
    if settings.kind == "adamw" and resolve_update(settings, kind) == "one_pass":
        return _adamw_in_one_pass(groups, settings)
    return BUILDERS[settings.kind](groups, settings)


def resolve_update(settings: OptimSettings, kind: str) -> str:
    """How steps are taken on a kind of device: "torch" or "one_pass".

    `auto` is one_pass for AdamW and AdamWSPAM on a GPU, else torch.
    """
    if settings.update != "auto":
        return settings.update
    return "one_pass" if settings.kind in ONE_PASS and kind == "cuda" else "torch"


def _moments(settings: OptimSettings) -> dict[str, Any]:
    """What every optimizer with moments is told."""
    return {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.eps,
    }


def _sgd(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """b ← μ b + g + λ p, p ← p − lr b; Nesterov: p ← p − lr (g + λ p + μ b)."""
    return torch.optim.SGD(
        groups,
        lr=settings.lr,
        momentum=settings.sgd_momentum,
        nesterov=settings.sgd_nesterov,
        fused=True,
    )


def _adam(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """Adam (1412.6980) of g + λ p: p ← p − lr m̂ / (√v̂ + ε)."""
    return torch.optim.Adam(groups, **_moments(settings), fused=True)


def _adamw(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamW (1711.05101): p ← p − lr (m̂ / (√v̂ + ε) + λ p), λ only in group 0."""
    return torch.optim.AdamW(groups, **_moments(settings), fused=True)


def _adamw_in_one_pass(
    groups: Groups, settings: OptimSettings
) -> torch.optim.Optimizer:
    """AdamW as AdamWSPAM that neither clips nor resets: gpt2/training/update.py takes its
    steps."""
    return AdamWSPAM(
        groups,
        **_moments(settings),
        weight_decay=0.0,
        theta=0.0,
        interval=0,
        warmup=0,
        reset_correction=True,
    )


def _adamwadv(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamW with the largest v so far in place of v (AMSGrad, 1904.09237)."""
    return torch.optim.AdamW(groups, **_moments(settings), amsgrad=True, fused=True)


def _muon(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """Muon over the group that decays, AdamW over the other."""
    matrices, rest = groups
    muon = torch.optim.Muon(
        [matrices],
        lr=settings.lr,
        momentum=settings.muon_momentum,
        nesterov=settings.muon_nesterov,
        ns_steps=settings.muon_steps,
        adjust_lr_fn=settings.muon_scale,
    )
    return MuonAdamW(muon, _adamw([rest], settings))


def _adamwspam(groups: Groups, settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamWSPAM (2501.06842)."""
    return AdamWSPAM(
        groups,
        **_moments(settings),
        weight_decay=0.0,
        theta=settings.spam_theta,
        interval=settings.spam_interval,
        warmup=settings.spam_warmup,
        reset_correction=settings.spam_reset_correction,
    )


BUILDERS: dict[str, Callable[[Groups, OptimSettings], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adamwadv": _adamwadv,
    "muon": _muon,
    "adamwspam": _adamwspam,
}
