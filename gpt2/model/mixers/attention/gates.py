"""Gates and weights that an attention learns beside its matrices.

Legend: B batch, n new tokens, S keys, E width, H heads, D head width.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import Matrix, STD
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

    def factor(self, stat_BHn: torch.Tensor) -> torch.Tensor:
        """factor_BHn of that statistic."""
        if self.detach:
            stat_BHn = stat_BHn.detach()
        g_BHn = torch.sigmoid(self.scale_H[:, None] * stat_BHn + self.shift_H[:, None])
        return (1 - self.alpha) + self.alpha * g_BHn


class OutputGate(nn.Module):
    """o ← o ⊙ σ(x W), elementwise (E x E) or headwise (E x H) (2505.06708)."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        headwise = settings.attention.output_gate == "headwise"
        width = settings.heads if headwise else settings.embed
        self.linear = nn.Linear(settings.embed, width, bias=False)

    def forward(self, o_BnHD: torch.Tensor, x_BnE: torch.Tensor) -> torch.Tensor:
        """The gated o_BnHD; x is the attention's normed input."""
        g_BnH1 = torch.sigmoid(self.linear(x_BnE)).unflatten(2, (o_BnHD.shape[2], -1))
        return o_BnHD * g_BnH1

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The one logical matrix."""
        yield Matrix(f"{prefix}.out_gate", self.linear.weight, STD, side="attn")
