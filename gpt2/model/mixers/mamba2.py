"""Mamba-2: a decay that every token chooses, keys and queries that heads share.

Legend: B batch, n new tokens, E width, H heads, D = E / H, N width of the state.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Constant, InitialLaw
from gpt2.model.mixers.recurrent import Layout, Recurrent, Strands
from gpt2.model.quantiles import log_rate, step_offset
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings

EXPAND = 2
"""The heads are so many times attention's, each D wide."""


class Mamba2(Recurrent):
    """S_t = e^(−e^A Δ) S_{t-1} + B (Δ x')ᵀ, o = Sᵀ C + D x', Δ = softplus(x W_dt + b), of
    2 H heads (Dao and Gu 2024, 2405.21060, sections 6 and 7); x', B, C convolved, B and C
    shared by the heads, no 1/√N; y = RMSNorm(o ⊙ swish(x W_z)) W_o, one norm over all 2 E
    channels.
    """

    kind = "mamba2"
    gate = "swish"
    filters = filter_biases = True

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        E, N = settings.embed, settings.of("mamba2").state_width(settings)
        heads, D = EXPAND * settings.heads, settings.head_width
        parts = {"x": EXPAND * E, "B": N, "C": N}
        super().__init__(settings, Layout(parts, heads, N, D, biased=False))
        self.dt = nn.Linear(E, heads, bias=False)
        self.A_log, self.dt_offset, self.D_skip = (
            nn.Parameter(torch.zeros(heads)) for _ in range(3)
        )

    def norm_width(self, layout: Layout) -> int:
        """See Recurrent: of all heads together."""
        return layout.heads * layout.value

    def finished(self, o_BnHD: torch.Tensor, x_BnE: torch.Tensor) -> torch.Tensor:
        """See Recurrent: the gate first."""
        return self.by_head(self.norm(self.gated(o_BnHD, x_BnE).flatten(2)))

    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """See Recurrent."""
        x_BnHD = self.by_head(parts[0])
        k, q = (part[:, :, None].expand(-1, -1, self.heads, -1) for part in parts[1:])
        step_BnH = F.softplus(self.dt(x_BnE).to(q.dtype) + self.dt_offset)
        decay_BnH = -self.A_log.exp() * step_BnH
        direct = self.D_skip[:, None] * x_BnHD
        v = step_BnH[..., None] * x_BnHD
        return Strands(q, k, v, decay_BnH, direct_BnHV=direct)

    def projections(self) -> dict[str, nn.Linear]:
        """See Recurrent."""
        return {"z": self.g, "dt": self.dt}

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """See Recurrent; A = ln U(1, 16), D at 1."""
        yield from super().initial_laws(prefix)
        yield InitialLaw(f"{prefix}.A_log", self.A_log, log_rate(1.0))
        yield InitialLaw(f"{prefix}.dt_offset", self.dt_offset, step_offset)
        yield Constant(f"{prefix}.D_skip", self.D_skip, 1.0)

    def facts(self) -> dict[str, Any]:
        """See Mixer; and the width of the state."""
        return super().facts() | {"mamba2_state": self.parts["B"]}


MIXER = Mamba2
