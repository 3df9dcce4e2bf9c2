"""γ: how much of a query's output each branch gives.

Legend: B batch, n new tokens, E width, H query heads, G key/value heads, D head width,
m branches, 2 or 3.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import STD, Constant, Matrix
from gpt2.settings.run import ModelSettings


class FixedGate(nn.Module):
    """γ = 1/m: of three branches a third each.

    late, late_matrices: parameters without a gradient while others are where they start.
    products: weights that multiply, `times` per token.
    """

    late: tuple[str, ...] = ()
    late_matrices: tuple[str, ...] = ()
    products, times = 0, 1

    def __init__(self, settings: ModelSettings, groups: int, branches: int):
        super().__init__()
        self.groups, self.branches = groups, branches

    def forward(self, x_BnE: torch.Tensor, q_BnHD: torch.Tensor) -> torch.Tensor:
        """γ_BnHm."""
        return q_BnHD.new_full((*q_BnHD.shape[:3], self.branches), 1 / self.branches)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """None."""
        yield from ()

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """None."""
        yield from ()


class SigmoidGate(FixedGate):
    """γ = σ(x W + b), of every head (2502.11089): ½ each at the start."""

    def __init__(self, settings: ModelSettings, groups: int, branches: int):
        super().__init__(settings, groups, branches)
        self.outer = nn.Linear(settings.embed, branches * settings.heads)

    def forward(self, x_BnE: torch.Tensor, q_BnHD: torch.Tensor) -> torch.Tensor:
        """γ_BnHm."""
        return self.outer(x_BnE).sigmoid().unflatten(2, (-1, self.branches))

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """W = 0."""
        yield Constant(f"{prefix}.outer", self.outer.weight, 0.0)


class SoftmaxGate(FixedGate):
    """γ = softmax(W_2 silu(W_1 q̄ + b_1) + b_2) of every group, q̄ the mean of its
    queries as they meet keys, W_1 D/2 x D: 1/m each at the start.
    """

    late, late_matrices = ("inner.bias",), ("inner",)

    def __init__(self, settings: ModelSettings, groups: int, branches: int):
        super().__init__(settings, groups, branches)
        D = settings.head_width
        self.inner = nn.Linear(D, max(D // 2, 1))
        self.outer = nn.Linear(max(D // 2, 1), branches)
        self.products = self.inner.weight.numel() + self.outer.weight.numel()
        self.times = groups

    def forward(self, x_BnE: torch.Tensor, q_BnHD: torch.Tensor) -> torch.Tensor:
        """γ_BnHm."""
        wide = torch.promote_types(q_BnHD.dtype, torch.float32)
        q_BnGgD = q_BnHD.to(wide).unflatten(2, (self.groups, -1))
        logits_BnGm = self.outer(F.silu(self.inner(q_BnGgD.mean(dim=3))))
        gate_BnGm = logits_BnGm.to(wide).softmax(dim=-1)
        return gate_BnGm.repeat_interleave(q_BnGgD.shape[3], dim=2)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """W_1; W_2 starts at 0."""
        yield Matrix(f"{prefix}.inner", self.inner.weight, STD, side="attn")

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """W_2 = 0."""
        yield Constant(f"{prefix}.outer", self.outer.weight, 0.0)


KINDS = {"sigmoid": SigmoidGate, "softmax": SoftmaxGate, "fixed": FixedGate}
