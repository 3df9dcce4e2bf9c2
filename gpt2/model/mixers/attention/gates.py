"""Gates and weights that an attention learns beside its matrices.

Legend: B batch, n new tokens, S keys, E width, H heads, D head width.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import Constant
from gpt2.settings.run import ModelSettings
from kernels.attention import statistic


class Reciprocal(nn.Module):
    """RA: the weight α_H of the transposed score, fixed or learned per head."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        options = settings.attention
        self.band = options.ra_band
        self.start = options.ra_alpha
        start_H = torch.full((settings.heads,), self.start)
        if options.ra_learned:
            self.alpha_H = nn.Parameter(start_H)
        else:
            self.register_buffer("alpha_H", start_H, persistent=False)

    @property
    def learned(self) -> bool:
        """Whether α is a parameter."""
        return isinstance(self.alpha_H, nn.Parameter)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """A learned α begins at CONFIG_RA_ALPHA."""
        if self.learned:
            yield Constant(f"{prefix}.alpha_H", self.alpha_H, self.start)


class CrossTokenGate(nn.Module):
    """RA-CT: g = σ(a_h · stat + b_h) of how concentrated a head's attention is.

    stat as kernels.attention.statistic defines it, over the visible keys of the
    ungated probabilities; a = 1, b = 2 at the start. Returned as the factor
    (1 - α) + α g.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        options = settings.attention
        self.kind, self.k = options.ra_ct_statistic, options.ra_ct_k
        self.name = f"{options.ra_ct_statistic}/{options.ra_ct_apply}"
        self.apply_to, self.alpha = options.ra_ct_apply, options.ra_ct_alpha
        self.average, self.detach = options.ra_ct_head_average, options.ra_ct_detach
        self.scale_H = nn.Parameter(torch.ones(settings.heads))
        self.shift_H = nn.Parameter(torch.full((settings.heads,), 2.0))

    def forward(self, p_BHnS: torch.Tensor, mask_nS: torch.Tensor) -> torch.Tensor:
        """factor_BHn."""
        if self.average:
            p_BHnS = p_BHnS.mean(dim=1, keepdim=True)
        return self.factor(statistic(p_BHnS, mask_nS, self.kind, self.k))

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Open at σ(2) where nothing is concentrated."""
        yield Constant(f"{prefix}.scale_H", self.scale_H, 1.0)
        yield Constant(f"{prefix}.shift_H", self.shift_H, 2.0)

    def factor(self, stat_BHn: torch.Tensor) -> torch.Tensor:
        """factor_BHn of that statistic."""
        if self.detach:
            stat_BHn = stat_BHn.detach()
        g_BHn = torch.sigmoid(self.scale_H[:, None] * stat_BHn + self.shift_H[:, None])
        return (1 - self.alpha) + self.alpha * g_BHn
