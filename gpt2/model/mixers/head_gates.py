"""What scales the head outputs of any mixer before they become its result.

Legend: B batch, n new tokens, E width, H heads, D head width.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import STD, Matrix
from gpt2.model.mixers.statistic import Statistic, gate, mean
from gpt2.model.values import BlockToBlock
from gpt2.settings.run import ModelSettings


class OutputGate(nn.Module):
    """o ← o ⊙ σ(x W), elementwise (E x E) or headwise (E x H) (2505.06708)."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        headwise = settings.output_gate == "headwise"
        width = settings.heads if headwise else settings.embed
        self.linear = nn.Linear(settings.embed, width, bias=False)

    def forward(self, o_BnHD: torch.Tensor, x_BnE: torch.Tensor) -> torch.Tensor:
        """The gated o_BnHD; x is the mixer's normed input."""
        g_BnH1 = torch.sigmoid(self.linear(x_BnE)).unflatten(2, (o_BnHD.shape[2], -1))
        return o_BnHD * g_BnH1

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The one logical matrix."""
        yield Matrix(f"{prefix}.out_gate", self.linear.weight, STD, side="attn")


def output_gate(settings: ModelSettings) -> OutputGate | None:
    """The gate of CONFIG_OUTPUT_GATE, which every mixer offers."""
    return None if settings.output_gate == "none" else OutputGate(settings)


def scaled(
    o_BnHD: torch.Tensor,
    x_BnE: torch.Tensor,
    context: BlockToBlock,
    out_gate: OutputGate | None,
) -> torch.Tensor:
    """Head outputs times the gate of the previous block's MLP and the output gate."""
    if context.gate_BnH is not None:
        o_BnHD = o_BnHD * context.gate_BnH[..., None]
    return o_BnHD if out_gate is None else out_gate(o_BnHD, x_BnE)


def gate_statistics(
    o_BnHD: torch.Tensor,
    x_BnE: torch.Tensor,
    context: BlockToBlock,
    out_gate: OutputGate | None,
    alpha: float | None,
) -> dict[str, Statistic]:
    """Means of γ, whose strength is alpha, and of the output gate."""
    found = {}
    if context.gate_BnH is not None:
        found["mlp_attn_gate"] = gate(context.gate_BnH.transpose(1, 2), alpha)
    if out_gate is not None:
        gate_BnHD = out_gate(torch.ones_like(o_BnHD), x_BnE)
        found["output_gate"] = mean(gate_BnHD.transpose(1, 2))
    return found
