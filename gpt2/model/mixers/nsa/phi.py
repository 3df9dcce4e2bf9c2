"""φ: the tokens of a compression block become one key, or one value.

All key/value heads share what is learned. `mlp` reads keys that are not rotated: on
rotated ones a score would change with the absolute position.

Legend: B batch, C blocks, G key/value heads, l tokens of a block, D head width, r rank.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import STD, Constant, Matrix


class Mean(nn.Module):
    """The mean of the block's tokens, in fp32 at least.

    late, late_matrices: parameters without a gradient while others are where they start.
    products: weights that multiply, once per block.
    """

    late: tuple[str, ...] = ()
    late_matrices: tuple[str, ...] = ()
    products = 0

    def __init__(self, length: int, width: int, rank: int | None):
        super().__init__()

    def forward(self, x_BCGlD: torch.Tensor) -> torch.Tensor:
        """y_BCGD in the type of x."""
        return _wide(x_BCGlD).mean(dim=3).to(x_BCGlD.dtype)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """None."""
        yield from ()

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """None."""
        yield from ()


class Conv(Mean):
    """Σ_i w_iD ⊙ x_i, a weight per place and dimension: the mean at the start."""

    def __init__(self, length: int, width: int, rank: int | None):
        super().__init__(length, width, rank)
        self.length = length
        self.weight_lD = nn.Parameter(torch.full((length * width,), 1 / length))

    def forward(self, x_BCGlD: torch.Tensor) -> torch.Tensor:
        """y_BCGD in the type of x."""
        w_lD = self.weight_lD.view(self.length, -1)
        return (_wide(x_BCGlD) * w_lD).sum(dim=3).to(x_BCGlD.dtype)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """1/l."""
        yield Constant(f"{prefix}.weight_lD", self.weight_lD, 1 / self.length)


class Mlp(Mean):
    """mean(x) + W_2 gelu(W_1 vec(x + pe)), W_2 = 0 and pe = 0 at the start: the mean.
    gelu in its tanh form; vec: token by token.
    """

    late, late_matrices = ("place_lD",), ("inner",)

    def __init__(self, length: int, width: int, rank: int | None):
        super().__init__(length, width, rank)
        self.place_lD = nn.Parameter(torch.zeros(length * width))
        self.inner = nn.Linear(length * width, rank, bias=False)
        self.outer = nn.Linear(rank, width, bias=False)
        self.products = self.inner.weight.numel() + self.outer.weight.numel()

    def forward(self, x_BCGlD: torch.Tensor) -> torch.Tensor:
        """y_BCGD in the type of x."""
        flat_BCGi = _wide(x_BCGlD).flatten(3) + self.place_lD
        h_BCGr = F.gelu(self.inner(flat_BCGi), approximate="tanh")
        y_BCGD = _wide(x_BCGlD).mean(dim=3) + self.outer(h_BCGr)
        return y_BCGD.to(x_BCGlD.dtype)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """W_1; W_2 starts at 0."""
        yield Matrix(f"{prefix}.inner", self.inner.weight, STD, side="attn")

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """pe and W_2."""
        yield Constant(f"{prefix}.place_lD", self.place_lD, 0.0)
        yield Constant(f"{prefix}.outer", self.outer.weight, 0.0)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


KINDS = {"mean": Mean, "conv": Conv, "mlp": Mlp}
