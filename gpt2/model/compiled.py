"""What torch.compile makes of a model: one graph, or one of every kind of block.

A graph is whole and has fixed shapes: what would break it, make a shape symbolic or ask
for more graphs than dynamo allows (its recompile_limit) is an error, never an eager
step.

Legend: B batch, T tokens, E width, V padded vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gpt2.model.block import Block
from gpt2.model.gpt import GPT
from gpt2.model.values import BlockToBlock, Positions

KINDS = 64
"""Graphs of blocks at most. Usually three: the first has nothing to add, the last gives
no context; every mixer and option that differs by layer has its own.
"""


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one graph of fixed shapes, compiled at its first call."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def compiled(model: GPT, blockwise: bool) -> nn.Module:
    """What computes `model`'s logits or loss, compiled at its first call."""
    return Blockwise(model) if blockwise else whole(model)


class Blockwise(nn.Module):
    """A GPT that is compiled block by block: blocks of a kind share a graph, whose
    inputs are their parameters, so that the time to compile does not grow with depth.

    Between graphs nothing is fused: sums are rounded in another order than in the graph
    of the whole model.
    """

    def __init__(self, model: GPT):
        super().__init__()
        torch._dynamo.config.recompile_limit = KINDS
        self.model = model
        self._embed, self._block, self._head = map(whole, (_embed, _block, _head))

    def forward(
        self,
        tokens_BT: torch.Tensor,
        targets_BT: torch.Tensor | None = None,
        starts_BT: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See GPT."""
        x_BTE, y_BTE = self._embed(self.model, tokens_BT, starts_BT), None
        context = BlockToBlock()
        for block in self.model.h:
            x_BTE, y_BTE, context = self._block(block, x_BTE, y_BTE, context, starts_BT)
        return self._head(self.model, x_BTE, y_BTE, targets_BT)


def _embed(
    model: GPT, tokens_BT: torch.Tensor, starts_BT: torch.Tensor | None
) -> torch.Tensor:
    return model.embed(tokens_BT, Positions(0, starts_BT))


def _block(
    block: Block,
    x_BTE: torch.Tensor,
    y_BTE: torch.Tensor | None,
    context: BlockToBlock,
    starts_BT: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, BlockToBlock]:
    return block(x_BTE, y_BTE, context, Positions(0, starts_BT))[:3]


def _head(
    model: GPT,
    x_BTE: torch.Tensor,
    y_BTE: torch.Tensor,
    targets_BT: torch.Tensor | None,
) -> torch.Tensor:
    return model.head(model.normed(x_BTE, y_BTE), targets_BT)
