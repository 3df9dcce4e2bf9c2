"""The delta rule: what a key already finds is taken out before its value is written.

Legend: B batch, n new tokens, E width, H heads, D = E / H.
"""

import torch
from torch import nn

from gpt2.model.mixers.recurrent import Recurrent, Strands, unit
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings


class DeltaNet(Recurrent):
    """S_t = S_{t-1} + β k (v − S_{t-1}ᵀ k)ᵀ, o = Sᵀ q / √D, β = σ(x W_β) of a head (Yang
    et al. 2024, 2406.06484, section 2.2); q, k and v pass a convolution of 4 tokens and
    SiLU, then q and k have length 1; y = RMSNorm(o) W_o.
    """

    kind = "deltanet"
    filters = erases = True

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__(settings)
        self.beta = nn.Linear(settings.embed, self.heads, bias=False)

    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """See Recurrent."""
        q, k, v = (self.by_head(part) for part in parts)
        q, k = unit(q) * self.key**-0.5, unit(k)
        beta_BnH1 = torch.sigmoid(self.beta(x_BnE).to(q.dtype))[..., None]
        return Strands(q, k, beta_BnH1 * v, erase=(k, beta_BnH1 * k))

    def projections(self) -> dict[str, nn.Linear]:
        """See Recurrent."""
        return super().projections() | {"beta": self.beta}


MIXER = DeltaNet
