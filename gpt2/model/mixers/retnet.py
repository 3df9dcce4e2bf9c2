"""Retention (RetNet): a decay of its own for every head, and rotated queries and keys.

Legend: B batch, n new tokens, H heads, D = E / H.
"""

import torch

from gpt2.model.mixers.recurrent import Recurrent, Strands
from gpt2.model.rope import rotate_at
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings

BASE = 10000.0
"""Of the rotation, where CONFIG_ROPE_BASE is not active."""
FASTEST = 5
"""The first head keeps 1 - 2^-5 of its state, each next one twice as long."""


class RetNet(Recurrent):
    """S_t = γ_h S_{t-1} + k vᵀ, o = Sᵀ q / √D, γ_h = 1 − 2^(−5−h), h from 0 (Sun et al.
    2023, 2307.08621, sections 2.1 and 2.2), q and k rotated by the place in the document;
    y = (RMSNorm(o) ⊙ swish(x W_g)) W_o.

    Rotated whatever CONFIG_POSITION is, as published; xPos's scales are γ's work.
    """

    kind = "retnet"
    gate = "swish"

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__(settings)
        self.base = settings.rope_base or BASE

    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """See Recurrent."""
        q, k, v = (self.by_head(part) for part in parts)
        start, starts_BT = positions
        place = torch.arange(start, start + x_BnE.shape[1], device=x_BnE.device)
        if starts_BT is not None:
            place = place - starts_BT
        q, k = (rotate_at(each, place, self.base) for each in (q, k))
        h_H = torch.arange(self.heads, device=q.device, dtype=q.dtype)
        decay_H = torch.log1p(-torch.exp2(-FASTEST - h_H))
        return Strands(q * self.key**-0.5, k, v, decay_H.expand(q.shape[:3]))


MIXER = RetNet
