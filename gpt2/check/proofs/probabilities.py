"""Rows of attention probabilities: what the normaliser promises of them."""

import torch

from gpt2.check.subject import Subject, require
from gpt2.model.values import BlockToBlock, Positions
from gpt2.settings.mixers.attention import AttentionSettings
from kernels.attention import visible

TOLERANCE = 1e-5


def probabilities(subject: Subject) -> None:
    """No weight is negative, none lies on a key that is not visible; a row of
    softmax sums to 1, a row of softpick to at most 1; in layers that have weights.
    """
    model = subject.build().eval()
    options = subject.small.model.attention
    with torch.no_grad():
        positions, context = Positions(), BlockToBlock()
        x_BTE = model.embed(subject.tokens()[:, :-1], positions)
        for i, block in enumerate(model.h):
            if block.attn.has_probabilities:
                seen = block.norm1(x_BTE), context, positions
                _rows(i, block.attn.probabilities(*seen), options)
            x_BTE, y_BTE, context, _ = block(x_BTE, None, context, positions)
            x_BTE = x_BTE + y_BTE


def _rows(i: int, p_BHTT: torch.Tensor, options: AttentionSettings) -> None:
    T = p_BHTT.shape[-1]
    hidden = ~visible(T, T, options.window, p_BHTT.device)
    require(p_BHTT.min().item() >= 0, f"h.{i} has a weight of {p_BHTT.min().item()}")
    require(
        p_BHTT[..., hidden].abs().sum().item() == 0,
        f"h.{i} gives weight to keys that are not visible",
    )
    sums = p_BHTT.sum(dim=-1)
    low, high = sums.min().item(), sums.max().item()
    kept = high <= 1 + TOLERANCE and (
        options.normaliser == "softpick" or low >= 1 - TOLERANCE
    )
    require(
        kept,
        f"rows of h.{i} sum to {low:.6f}..{high:.6f} ({options.normaliser})",
    )
