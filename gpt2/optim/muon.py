"""Muon for matrices and AdamW for the rest, as one optimizer."""

from typing import Any

import torch

from gpt2.optim import adamw
from gpt2.optim.optimizer import MOMENTS, MOMENTUM, Groups, OptimizerFacts
from gpt2.settings.run import OptimSettings

FACTS = OptimizerFacts(MOMENTUM, MOMENTS, elementwise=False)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """A running mean of a matrix's gradients, two moments of the rest. A step moves
    all weights of a matrix.
    """
    return FACTS


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
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
    return MuonAdamW(muon, adamw.build([rest], settings, one_pass=False))


class MuonAdamW(torch.optim.Optimizer):
    """torch.optim.Muon and torch.optim.AdamW behind one param_groups and state.

    Group 0 is Muon's, the blocks' matrices; group 1 is AdamW's. Both parts work
    on these groups and this state, so that a schedule, a state dict, a mask and
    a resumed run see one optimizer. A step is bit for bit the two steps.

    Muon (K. Jordan 2024; scale 0.2 √max(rows, columns): 2502.16982): with B the
    mean of gradients, O the Newton-Schulz iterate of B (Nesterov: of the
    gradient mixed with B), computed in bf16, p ← p − lr λ p − lr · scale · O. A
    fused projection (q, k and v in one parameter) is one matrix.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW):
        self.parts = (muon, adamw)
        super().__init__(muon.param_groups + adamw.param_groups, {})
        self._share()

    def _share(self) -> None:
        """Let the parts work on this object's groups and state."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict of this optimizer; torch's errors."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self) -> None:
        """One step of either part."""
        for part in self.parts:
            part.step()
