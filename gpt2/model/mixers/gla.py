"""Gated linear attention: every channel of a state forgets at a rate of its own.

Legend: B batch, n new tokens, E width, H heads, D = E / H, r rank.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Constant, InitialLaw
from gpt2.model.mixers.recurrent import Recurrent, Strands
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings

TEMPERATURE = 16.0
"""τ: a gate that starts at σ(0) keeps 2^(-1/16) of the state."""


class GatedLinearAttention(Recurrent):
    """S_t = diag(α_t) S_{t-1} + k vᵀ, o = Sᵀ q / √D, α = σ(x W_1 W_2 + b)^(1/16), of rank
    r (Yang et al. 2023, 2312.06635, section 4); y = (RMSNorm(o) ⊙ swish(x W_g)) W_o.
    """

    kind = "gla"
    gate = "swish"

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__(settings)
        E, rank = settings.embed, settings.of("gla").rank(settings)
        self.decay_down = nn.Linear(E, rank, bias=False)
        self.decay_up = nn.Linear(rank, E, bias=False)
        self.decay_offset = nn.Parameter(torch.empty(E))

    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """See Recurrent."""
        q, k, v = (self.by_head(part) for part in parts)
        kept_BnE = self.decay_up(self.decay_down(x_BnE)).to(q.dtype) + self.decay_offset
        decay_BnHD = self.by_head(F.logsigmoid(kept_BnE) / TEMPERATURE)
        return Strands(q * self.key**-0.5, k, v, decay_BnHD)

    def projections(self) -> dict[str, nn.Linear]:
        """See Recurrent."""
        own = {"decay_down": self.decay_down, "decay_up": self.decay_up}
        return super().projections() | own

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """See Recurrent; b at 0."""
        yield from super().initial_laws(prefix)
        yield Constant(f"{prefix}.decay_offset", self.decay_offset, 0.0)

    def facts(self) -> dict[str, Any]:
        """See Mixer; and the rank of what forgets."""
        return super().facts() | {"gla_rank": self.decay_up.in_features}


MIXER = GatedLinearAttention
