"""Gated DeltaNet: the delta rule on a state that fades as every token says.

Legend: B batch, n new tokens, E width, H heads, D = E / H.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Constant, InitialLaw
from gpt2.model.mixers.recurrent import Recurrent, Strands, unit
from gpt2.model.quantiles import log_rate, step_offset
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings


class GatedDeltaNet(Recurrent):
    """S_t = α S_{t-1} + β k (v − α S_{t-1}ᵀ k)ᵀ, o = Sᵀ q / √D, β = σ(x W_β) and
    α = exp(−e^A softplus(x W_a + b)) of a head (Yang et al. 2024, 2412.06464, section 3);
    q, k and v pass a convolution of 4 tokens and SiLU, then q and k have length 1;
    y = (RMSNorm(o) ⊙ swish(x W_g)) W_o.
    """

    kind = "gdn"
    gate = "swish"
    filters = erases = True

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__(settings)
        self.beta = nn.Linear(settings.embed, self.heads, bias=False)
        self.decay = nn.Linear(settings.embed, self.heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.dt_offset = nn.Parameter(torch.empty(self.heads))

    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """See Recurrent."""
        q, k, v = (self.by_head(part) for part in parts)
        q, k = unit(q) * self.key**-0.5, unit(k)
        beta_BnH1 = torch.sigmoid(self.beta(x_BnE).to(q.dtype))[..., None]
        step_BnH = F.softplus(self.decay(x_BnE).to(q.dtype) + self.dt_offset)
        decay_BnH = -self.A_log.exp() * step_BnH
        return Strands(q, k, beta_BnH1 * v, decay_BnH, (k, beta_BnH1 * k))

    def projections(self) -> dict[str, nn.Linear]:
        """See Recurrent."""
        return super().projections() | {"beta": self.beta, "decay": self.decay}

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """See Recurrent; A = ln U(0, 16), as in the authors' code, and b as Mamba-2's."""
        yield from super().initial_laws(prefix)
        yield InitialLaw(f"{prefix}.A_log", self.A_log, log_rate(0.0))
        yield InitialLaw(f"{prefix}.dt_offset", self.dt_offset, step_offset)


MIXER = GatedDeltaNet
