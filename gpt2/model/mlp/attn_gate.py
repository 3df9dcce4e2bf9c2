"""The MLP's word on the next block's heads.

Legend: B batch, n new tokens, F MLP width, r rank, H heads.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Matrix, STD
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings

OPEN = 2.0  # σ(2) = 0.88: gates start nearly open


class AttentionGate(nn.Module):
    """γ_t = σ(c̄_t W_h + 2), c_t = gelu(h_t W_g), c̄_t the mean of c_s over s <= t,
    of t's document where a sequence holds several.

    The next block scales each head's output by (1 - α) + αγ. Without the
    non-linearity W_g W_h would be one map of rank H. The running sum of a decode
    is fp32: r values, whatever the length. Option: c_t alone instead of c̄_t.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.alpha = settings.mlp.attn_gate_alpha
        self.mean = settings.mlp.attn_gate_mean
        self.down = nn.Linear(settings.mlp_dim, settings.gate_rank, bias=False)
        self.up = nn.Linear(settings.gate_rank, settings.heads, bias=False)

    def forward(
        self,
        heard_Bnr: torch.Tensor,
        positions: Positions,
        total_Br: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(factor_BnH, the grown sum) from h W_g."""
        start, starts_BT = positions
        c_Bnr = F.gelu(heard_Bnr, approximate="tanh")
        if self.mean and starts_BT is not None:
            c_Bnr = document_mean(c_Bnr, starts_BT)
        elif self.mean:
            sum_Bnr = c_Bnr.to(_sum_dtype(c_Bnr)).cumsum(dim=1)
            if total_Br is not None:
                sum_Bnr = sum_Bnr + total_Br[:, None]
                total_Br = sum_Bnr[:, -1]
            n = c_Bnr.shape[1]
            count_n = torch.arange(start + 1, start + n + 1, device=c_Bnr.device)
            c_Bnr = (sum_Bnr / count_n[:, None]).to(c_Bnr.dtype)
        gamma_BnH = torch.sigmoid(self.up(c_Bnr) + OPEN)
        return (1 - self.alpha) + self.alpha * gamma_BnH, total_Br

    def read_weight(self) -> torch.Tensor:
        """W_g as (r, F)."""
        return self.down.weight

    def empty_total(self, heard_B0r: torch.Tensor) -> torch.Tensor | None:
        """The sum over no tokens, None where nothing is summed."""
        if not self.mean:
            return None
        return heard_B0r.to(_sum_dtype(heard_B0r)).sum(dim=1)

    def cached_sum(self) -> int:
        """Values of fp32 that a decode keeps whatever the length."""
        return self.down.out_features if self.mean else 0

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """W_g (r, F) and W_h (H, r)."""
        yield Matrix(f"{prefix}.gate_down", self.down.weight, STD, side="mlp")
        yield Matrix(f"{prefix}.gate_up", self.up.weight, STD, side="mlp")


def document_mean(c_BTr: torch.Tensor, starts_BT: torch.Tensor) -> torch.Tensor:
    """c̄_t = the mean of c_s over starts_t <= s <= t.

    The sums double: after the step with d, each runs over the last 2d tokens, or
    from its document's first. What lies before that enters none of them, so that
    nothing of another document is left, as there would be of a difference of sums.
    """
    T = c_BTr.shape[1]
    t_T = torch.arange(T, device=c_BTr.device)
    sum_BTr, d = c_BTr.to(_sum_dtype(c_BTr)), 1
    while d < T:
        before_BTr = F.pad(sum_BTr[:, :-d], (0, 0, d, 0))
        inside_BT1 = (t_T - d >= starts_BT)[..., None]
        sum_BTr = sum_BTr + torch.where(inside_BT1, before_BTr, 0.0)
        d *= 2
    count_BT1 = (t_T + 1 - starts_BT)[..., None]
    return (sum_BTr / count_BT1).to(c_BTr.dtype)


def _sum_dtype(tensor: torch.Tensor) -> torch.dtype:
    """fp32 at least: in bf16 a sum over 1024 tokens is wrong by 3 %."""
    return torch.promote_types(tensor.dtype, torch.float32)
