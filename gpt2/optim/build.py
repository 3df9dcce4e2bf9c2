"""From OptimSettings to the configured optimizer: its file is imported, no other."""

import importlib
from types import ModuleType

import torch
from torch import nn

from gpt2.optim.optimizer import OptimizerFacts, decayed_names
from gpt2.settings.run import OptimSettings
from kconf.bind import SettingsError

CHOSEN = {
    "gpt2.optim.sgd": ("OPTIMIZER_SGD",),
    "gpt2.optim.adam": ("OPTIMIZER_ADAM",),
    "gpt2.optim.adamw": ("OPTIMIZER_ADAMW",),
    "gpt2.optim.adamwadv": ("OPTIMIZER_ADAMWADV",),
    "gpt2.optim.muon": ("OPTIMIZER_MUON",),
    "gpt2.optim.adamwspam": ("OPTIMIZER_ADAMWSPAM",),
}
"""The files that this one imports, each with the symbol that chooses it."""


def kinds() -> tuple[str, ...]:
    """The names of all optimizers."""
    return tuple(module.rpartition(".")[2] for module in CHOSEN)


def _module(kind: str) -> ModuleType:
    """An optimizer's file (gpt2/optim/optimizer.py)."""
    return importlib.import_module(f"gpt2.optim.{kind}")


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Those of the configured optimizer."""
    return _module(settings.kind).facts(settings)


def state_bytes(model: nn.Module) -> dict[str, int]:
    """Of every optimizer by its name: bytes that it keeps of a model, at most."""
    return {kind: _module(kind).FACTS.state_bytes(model) for kind in kinds()}


def build(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimizer over named parameters; group 0 decays, group 1 does not.

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
    return _module(settings.kind).build(groups, settings, one_pass=update == "one_pass")


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
