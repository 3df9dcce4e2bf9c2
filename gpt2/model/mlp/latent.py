"""The MLP reads its block's key latent and writes to the next block's.

Legend: B batch, n new tokens, F MLP width, L latent width, H heads.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.initial import STD, Constant, Matrix, draw
from gpt2.settings.run import ModelSettings


class ReciprocalLatent(nn.Module):
    """h += α c^k W_r^T; next block's c^k += α h W_w, with W_r, W_w ∈ R^{F x L}.

    tying `untied`: two matrices; `tied_transpose`: one for both;
    `per_head_scalar`: both are a fixed orthonormal Q (Q^T Q = I, the same in all
    layers and for all seeds), scaled per head: h += α (a ⊙ c^k) Q^T and
    c^k += α b ⊙ (h Q), latent j belonging to head floor(j H / L), a = b = 1 at
    the start. The last block has nothing to write to.
    """

    def __init__(self, settings: ModelSettings, writes: bool):
        super().__init__()
        F, L, H = settings.mlp_dim, settings.latent, settings.heads
        self.alpha, self.tying = settings.mlp.latent_alpha, settings.mlp.latent_tying
        self.writes = writes
        if self.tying == "per_head_scalar":
            self.register_buffer("basis_FL", orthonormal(F, L), persistent=False)
            self.register_buffer("head_L", torch.arange(L) * H // L, persistent=False)
            self.read_H = nn.Parameter(torch.ones(H))
            self.write_H = nn.Parameter(torch.ones(H)) if writes else None
            return
        self.read_FL = nn.Parameter(torch.empty(F, L))
        untied = self.tying == "untied" and writes
        self.write_FL = nn.Parameter(torch.empty(F, L)) if untied else None

    def read(self, latent_BnL: torch.Tensor) -> torch.Tensor:
        """α c^k_BnL, or α a ⊙ c^k: what h reads of it."""
        if self.tying == "per_head_scalar":
            latent_BnL = self.read_H[self.head_L] * latent_BnL
        return self.alpha * latent_BnL

    def write(self, heard_BnL: torch.Tensor) -> torch.Tensor:
        """What is added to the next block's c^k_BnL, from h W_w or h Q."""
        if self.tying == "per_head_scalar":
            heard_BnL = self.write_H[self.head_L] * heard_BnL
        return self.alpha * heard_BnL

    def read_weight(self) -> torch.Tensor | None:
        """W_w or Q as (L, F); None in the last block, which writes nothing."""
        if not self.writes:
            return None
        if self.tying == "untied":
            return self.write_FL.T
        return self.write_weight().T

    def write_weight(self) -> torch.Tensor:
        """W_r or Q as (F, L)."""
        return self.basis_FL if self.tying == "per_head_scalar" else self.read_FL

    def products(self) -> int:
        """Multiply-adds of a token that no parameter accounts for: where the matrix
        that reads writes too, F L once more; by the fixed Q, F L each time.
        """
        write_weight = self.write_weight()
        if self.tying == "per_head_scalar":
            return write_weight.numel() * (1 + self.writes)
        return write_weight.numel() * (self.writes and self.tying == "tied_transpose")

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """Those that are learned."""
        if self.tying == "per_head_scalar":
            return
        yield Matrix(f"{prefix}.latent_read", self.read_FL, STD, side="mlp")
        if self.write_FL is not None:
            yield Matrix(f"{prefix}.latent_write", self.write_FL, STD, side="mlp")

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """The scales a and b at 1."""
        if self.tying == "per_head_scalar":
            yield Constant(f"{prefix}.read_H", self.read_H, 1.0)
            if self.write_H is not None:
                yield Constant(f"{prefix}.write_H", self.write_H, 1.0)


def orthonormal(rows: int, columns: int) -> torch.Tensor:
    """Q with Q^T Q = I, a function of its shape alone: QR of fixed normal numbers,
    the diagonal of R made positive.
    """
    normal = torch.from_numpy(draw(0, "", "latent basis", (rows, columns))).double()
    q, r = torch.linalg.qr(normal)
    return (q * r.diagonal().sign()).float()
