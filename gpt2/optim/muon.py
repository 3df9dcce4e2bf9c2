"""Muon for matrices and AdamW for the rest, as one optimizer."""

from typing import Any

import torch


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
