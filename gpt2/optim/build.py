"""From OptimSettings to a torch optimizer over named parameter groups."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gpt2.optim.muon import MuonAdamW
from gpt2.optim.spam import AdamWSPAM
from gpt2.settings.run import OptimSettings
from kconf.bind import SettingsError

Groups = list[dict[str, Any]]
Builder = Callable[[Groups, OptimSettings], torch.optim.Optimizer]

FLOAT = 4  # bytes of a number that an optimizer keeps of a weight
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class OptimizerFacts:
    """What is asked of an optimizer that nobody has built.

    matrix_state, other_state: names of the fp32 tensors that it keeps of a parameter,
    each of the parameter's shape: of those that decay and of all others. elementwise:
    a weight's step depends on its own gradient and state alone, so that a weight whose
    gradient and state are 0 stays where it is. one_pass: kernels/adamw takes its step.
    """

    matrix_state: tuple[str, ...] = ()
    other_state: tuple[str, ...] = ()
    elementwise: bool = True
    one_pass: bool = False

    def state_bytes(self, model: nn.Module) -> int:
        """Bytes of the state over a model's parameters, on any device, meta too."""
        decayed = decayed_names(model)
        numbers = 0
        for name, parameter in model.named_parameters():
            kept = self.matrix_state if name in decayed else self.other_state
            numbers += parameter.numel() * len(kept)
        return FLOAT * numbers


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
    update = resolve_update(settings, named[0][1].device.type)
    if settings.kind == "adamw" and update == "one_pass":
        return _adamw_in_one_pass(groups, settings)
    builder, _ = KINDS[settings.kind]
    return builder(groups, settings)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Those of the configured optimizer."""
    _, found = KINDS[settings.kind]
    if settings.sgd_momentum == 0:
        return replace(found, matrix_state=(), other_state=())
    return found


def resolve_update(settings: OptimSettings, kind: str) -> str:
    """How steps are taken on a kind of device: "torch" or "one_pass".

    `auto` is one_pass on a GPU for an optimizer that has it, else torch. Raises
    SettingsError where one_pass is asked of an optimizer that has it not.
    """
    one_pass = facts(settings).one_pass
    if settings.update == "one_pass" and not one_pass:
        raise SettingsError(
            "UPDATE_ONE_PASS", True, f"{settings.kind}'s step is torch's alone"
        )
    if settings.update != "auto":
        return settings.update
    return "one_pass" if one_pass and kind == "cuda" else "torch"


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


_MOMENTUM = ("momentum_buffer",)
_AMSGRAD = (*MOMENTS, "max_exp_avg_sq")
KINDS: dict[str, tuple[Builder, OptimizerFacts]] = {
    "sgd": (_sgd, OptimizerFacts(_MOMENTUM, _MOMENTUM)),
    "adam": (_adam, OptimizerFacts(MOMENTS, MOMENTS)),
    "adamw": (_adamw, OptimizerFacts(MOMENTS, MOMENTS, one_pass=True)),
    "adamwadv": (_adamwadv, OptimizerFacts(_AMSGRAD, _AMSGRAD)),
    "muon": (_muon, OptimizerFacts(_MOMENTUM, MOMENTS, elementwise=False)),
    "adamwspam": (_adamwspam, OptimizerFacts(MOMENTS, MOMENTS, one_pass=True)),
}
"""Of every optimizer by its name: what builds it, and its facts."""
