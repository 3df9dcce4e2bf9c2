"""The MLP of a block: an activation and the reciprocal mechanisms.

Legend: B batch, n new tokens, E width, F MLP width.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import STD, Constant, Matrix, residual_std
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    MlpCache,
    Positions,
    Products,
)
from gpt2.settings.run import ModelSettings
from kernels.gelu import linear_gelu

CHOSEN = {
    "gpt2.model.mlp.attn_gate": ("MLP_ATTN_GATE",),
    "gpt2.model.mlp.cross_token": ("MLP_CROSS_TOKEN",),
    "gpt2.model.mlp.latent": ("MLP_LATENT_RECIP",),
}
"""The mechanisms' files, imported where they are chosen (records/imports.py)."""


class Mlp(nn.Module):
    """y = h W_out + b_out, h = act(x W_in + b_in).

    gelu: GPT-2's tanh form; relu2: relu(·)²; swiglu: silu(x W_gate) ⊙ (x W_in).
    The reciprocal mechanisms all read this h, the hidden layer right after the
    activation, and what they add to it adds up; so their order does not matter.
    The first block reads from no other, the last block writes to none.

    A mechanism reads h by a matrix and adds a product to it: what it reads is
    h W_read, what it writes is r W_write^T. So a whole sequence needs h once, and never
    what h becomes: [y', reads] = h [W_out, W_read], y = y' + r (W_out W_write)^T.
    """

    def __init__(self, settings: ModelSettings, last: bool):
        super().__init__()
        options, E, bias = settings.mlp, settings.embed, settings.bias
        self.kind = options.kind
        self.inner = nn.Linear(E, settings.mlp_dim, bias=bias)
        swiglu = self.kind == "swiglu"
        self.gate = nn.Linear(E, settings.mlp_dim, bias=bias) if swiglu else None
        self.outer = nn.Linear(settings.mlp_dim, E, bias=bias)
        self.attn_gate = self.cross_token = self.latent = None
        if options.attn_gate and not last:
            from gpt2.model.mlp.attn_gate import AttentionGate

            self.attn_gate = AttentionGate(settings)
        if options.cross_token:
            from gpt2.model.mlp.cross_token import CrossToken

            self.cross_token = CrossToken(settings)
        if options.latent_recip:
            from gpt2.model.mlp.latent import ReciprocalLatent

            self.latent = ReciprocalLatent(settings, writes=not last)
        self.out_std = residual_std(settings.depth)

    def forward(
        self,
        x_BnE: torch.Tensor,
        given: MixerToMlp,
        positions: Positions,
        cache: MlpCache | None,
    ) -> tuple[torch.Tensor, BlockToBlock, MlpCache | None]:
        """y_BnE, what the next block reads, and the grown cache (None without)."""
        h_BnF, whole = self._activation(x_BnE), cache is None
        y_BnE, reads = (
            self._output_and_reads(h_BnF) if whole else (None, self._reads(h_BnF))
        )
        total_Br, mixed = cache or MlpCache(None, None)
        writes, context = [], BlockToBlock()
        if self.attn_gate is not None:
            found = self.attn_gate(reads["gate"], positions, total_Br)
            gate_BnH, total_Br = found
            context = context._replace(gate_BnH=gate_BnH)
        if self.cross_token is not None:
            r_Bnr, mixed = self.cross_token(reads["cross"], given, mixed)
            writes.append((r_Bnr, self.cross_token.write_weight()))
        if self.latent is not None:
            writes.append(
                (self.latent.read(given.latent_BnL), self.latent.write_weight())
            )
            if "latent" in reads:
                write_BnL = self.latent.write(reads["latent"])
                context = context._replace(latent_BnL=write_BnL)
        if whole:
            for r_Bnr, write_Fr in writes:
                y_BnE = y_BnE + F.linear(r_Bnr, self.outer.weight @ write_Fr)
            return y_BnE, context, None
        for r_Bnr, write_Fr in writes:
            h_BnF = h_BnF + F.linear(r_Bnr, write_Fr)
        return self.outer(h_BnF), context, MlpCache(total_Br, mixed)

    @property
    def _read_weights(self) -> dict[str, torch.Tensor]:
        """What each mechanism reads h by."""
        parts = {"gate": self.attn_gate, "cross": self.cross_token}
        parts |= {"latent": self.latent}
        weights = {
            name: part.read_weight() for name, part in parts.items() if part is not None
        }
        return {
            name: read_rF for name, read_rF in weights.items() if read_rF is not None
        }

    def _reads(self, h_BnF: torch.Tensor) -> dict[str, torch.Tensor]:
        """h W_read of each mechanism."""
        return {name: F.linear(h_BnF, W) for name, W in self._read_weights.items()}

    def _output_and_reads(self, h_BnF: torch.Tensor) -> tuple[torch.Tensor, dict]:
        """(h W_out + b_out, h W_read of each mechanism) by one product."""
        weights = self._read_weights
        if not weights:
            return self.outer(h_BnF), {}
        matrices = [self.outer.weight, *weights.values()]
        z_BnN = F.linear(h_BnF, torch.cat(matrices))
        y_BnE, *reads = z_BnN.split([len(matrix) for matrix in matrices], dim=-1)
        if self.outer.bias is not None:
            y_BnE = y_BnE + self.outer.bias.to(y_BnE.dtype)
        return y_BnE, dict(zip(weights, reads))

    def _activation(self, x_BnE: torch.Tensor) -> torch.Tensor:
        if self.kind == "gelu":
            return linear_gelu(x_BnE, self.inner.weight, self.inner.bias)
        h_BnF = self.inner(x_BnE)
        if self.kind == "swiglu":
            return F.silu(self.gate(x_BnE)) * h_BnF
        return h_BnF.relu().square()

    def empty_cache(self, x_BnE: torch.Tensor) -> MlpCache:
        """A cache of no tokens, shaped for x."""
        reads = self._reads(self._activation(x_BnE[:, :0]))
        gate, cross = self.attn_gate, self.cross_token
        return MlpCache(
            None if gate is None else gate.empty_total(reads["gate"]),
            None if cross is None else cross.empty_mixed(reads["cross"]),
        )

    def cache_size(self, tokens: int) -> CacheSize:
        """What a decode holds after so many tokens."""
        gate, cross = self.attn_gate, self.cross_token
        per_token = 0 if cross is None else cross.cache_per_token()
        return CacheSize(per_token * tokens, 0 if gate is None else gate.cached_sum())

    def products(self, T: int, keys: int) -> Products:
        """Multiply-adds of a token that no parameter accounts for, behind a mixer that
        sees so many keys.
        """
        cross, latent = self.cross_token, self.latent
        mixing = Products() if cross is None else cross.products(T, keys)
        again = 0 if latent is None else latent.products()
        return Products(mixing.full + again, mixing.causal + again)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """in, gate (F, E) and out, drawn as (F, E): a wider MLP shares its first
        rows; then the mechanisms' own.
        """
        yield Matrix(f"{prefix}.in", self.inner.weight, STD, side="mlp")
        if self.gate is not None:
            yield Matrix(f"{prefix}.gate", self.gate.weight, STD, side="mlp")
        yield Matrix(
            f"{prefix}.out",
            self.outer.weight,
            self.out_std,
            transposed=True,
            side="mlp",
        )
        for mechanism in (self.attn_gate, self.cross_token, self.latent):
            if mechanism is not None:
                yield from mechanism.matrices(prefix)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Of the reciprocal latent."""
        if self.latent is not None:
            yield from self.latent.initial_laws(f"{prefix}.latent")
