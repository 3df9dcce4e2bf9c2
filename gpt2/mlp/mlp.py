"""The MLP of a block: an activation and the reciprocal mechanisms.

Legend: B batch, n new tokens, E width, F MLP width. starts_BT: the first token of
every token's document.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.context import Context, MlpCache, Side
from gpt2.init import STD, Matrix, residual_std
from gpt2.mlp.attn_gate import AttentionGate
from gpt2.mlp.cross_token import CrossToken
from gpt2.mlp.latent import ReciprocalLatent
from gpt2.settings import ModelSettings
from kernels.gelu import gelu, linear_gelu


class Mlp(nn.Module):
    """y = h W_out + b_out, h = act(x W_in + b_in).

    gelu: GPT-2's tanh form; relu2: relu(·)²; swiglu: silu(x W_gate) ⊙ (x W_in).
    The reciprocal mechanisms all read this h, the hidden layer right after the
    activation, and what they add to it adds up; so their order does not matter.
    The first block has nobody to hear, the last block tells nobody.
    """

    def __init__(self, settings: ModelSettings, last: bool):
        super().__init__()
        options, E, bias = settings.mlp, settings.embed, settings.bias
        self.kind = options.kind
        self.inner = nn.Linear(E, settings.mlp_dim, bias=bias)
        swiglu = self.kind == "swiglu"
        self.gate = nn.Linear(E, settings.mlp_dim, bias=bias) if swiglu else None
        self.outer = nn.Linear(settings.mlp_dim, E, bias=bias)
        gates = options.attn_gate and not last
        self.attn_gate = AttentionGate(settings) if gates else None
        self.cross_token = CrossToken(settings) if options.cross_token else None
        self.latent = (
            ReciprocalLatent(settings, writes=not last)
            if options.latent_recip
            else None
        )
        self.out_std = residual_std(settings.layers)
        readers = self.attn_gate, self.cross_token, self.latent
        self.read_once = all(reader is None for reader in readers)

    def forward(
        self,
        x_BnE: torch.Tensor,
        side: Side,
        start: int,
        cache: MlpCache | None,
        starts_BT: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Context, MlpCache | None]:
        """y_BnE, what the next block hears, and the grown cache (None without)."""
        h_BnF = self._activation(x_BnE)
        total_Br, mixed = cache or MlpCache(None, None)
        hidden_BnF, context = h_BnF, Context()
        if self.attn_gate is not None:
            gate_BnH, total_Br = self.attn_gate(h_BnF, start, total_Br, starts_BT)
            context = context._replace(gate_BnH=gate_BnH)
        if self.cross_token is not None:
            added_BnF, mixed = self.cross_token(h_BnF, side, mixed)
            hidden_BnF = hidden_BnF + added_BnF
        if self.latent is not None:
            hidden_BnF = hidden_BnF + self.latent.read(side.latent_BnL)
            context = context._replace(latent_BnL=self.latent.write(h_BnF))
        cache = None if cache is None else MlpCache(total_Br, mixed)
        return self.outer(hidden_BnF), context, cache

    def _activation(self, x_BnE: torch.Tensor) -> torch.Tensor:
        if self.kind == "gelu" and self.read_once:
            return linear_gelu(x_BnE, self.inner.weight, self.inner.bias)
        h_BnF = self.inner(x_BnE)
        if self.kind == "swiglu":
            return F.silu(self.gate(x_BnE)) * h_BnF
        if self.kind == "relu2":
            return h_BnF.relu().square()
        return gelu(h_BnF)

    def empty_cache(self, x_BnE: torch.Tensor) -> MlpCache:
        """A cache of no tokens, shaped for x."""
        h_B0F = self._activation(x_BnE[:, :0])
        gate, cross = self.attn_gate, self.cross_token
        return MlpCache(
            None if gate is None else gate.empty_total(h_B0F),
            None if cross is None else cross.empty_mixed(h_B0F),
        )

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer."""
        return 0 if self.cross_token is None else self.cross_token.cache_per_token()

    def cache_constant(self) -> int:
        """Values a decode keeps whatever the length."""
        return 0 if self.attn_gate is None else self.attn_gate.cache_constant()

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
