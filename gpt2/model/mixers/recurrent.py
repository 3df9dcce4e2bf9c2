"""What the recurrent mixers share: a state per head stands in the place of the keys.

    S_t = D_t S_{t-1} − c_t (e_tᵀ D_t S_{t-1}) + k_t v_tᵀ,    o_t = S_tᵀ q_t,

D_t = diag(exp g_t) (kernels/recurrence). A mixer is a file that says what its q, k, v, g,
e and c are (`strands`) and where its parameters start. Around that: the projections of
q, k and v with, if it has filters, a causal convolution of 4 tokens and SiLU; RMSNorm per
head; a gate; o.

Legend: B batch, n new tokens, E width, F channels of the projections, H heads, K key
width, V value width.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import STD, Constant, InitialLaw, Matrix, residual_std
from gpt2.model.mixers.convolution import BEFORE, Filters, convolved
from gpt2.model.mixers.decays import decay_statistics
from gpt2.model.mixers.head_gates import gate_statistics, output_gate, scaled
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mixers.recurrence_impl import by_device
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.quantiles import taps
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    Positions,
    Products,
)
from gpt2.settings.run import ModelSettings
from kernels.recurrence import CHUNK, run

EPS = 1e-5
"""Of the norm of the heads."""
EPS_UNIT = 1e-6
"""Of a vector's length."""
GATES = {"swish": F.silu, "sigmoid": torch.sigmoid}


class Strands(NamedTuple):
    """What the recurrence reads of every token, in fp32 at least.

    log_decay: g <= 0, (B, n, H) or (B, n, H, K), None: nothing fades. erase: (e_BnHK,
    c_BnHK), None: nothing is taken out. direct_BnHV: what is added to o_t of its own token.
    """

    q_BnHK: torch.Tensor
    k_BnHK: torch.Tensor
    v_BnHV: torch.Tensor
    log_decay: torch.Tensor | None = None
    erase: tuple[torch.Tensor, torch.Tensor] | None = None
    direct_BnHV: torch.Tensor | None = None


class RecurrentCache(NamedTuple):
    """state_BHKV: fp32 at least. tail_B3F: the last tokens that the convolution has read,
    None without one. A value: nothing writes into it.
    """

    state_BHKV: torch.Tensor
    tail_B3F: torch.Tensor | None

    def tensors(self) -> list[torch.Tensor]:
        """All it holds."""
        kept = [self.state_BHKV, self.tail_B3F]
        return [tensor for tensor in kept if tensor is not None]


class Layout(NamedTuple):
    """parts: what is projected side by side, in the order that `strands` gets it, name ->
    width. heads, key, value: of the state. biased: the projection has a bias.
    """

    parts: dict[str, int]
    heads: int
    key: int
    value: int
    biased: bool

    @classmethod
    def of(cls, settings: ModelSettings) -> Self:
        """Attention's: q, k and v of H heads of D each."""
        D, parts = settings.head_width, dict.fromkeys("qkv", settings.embed)
        return cls(parts, settings.heads, D, D, settings.bias)


class Recurrent(Mixer):
    """y = (gated(norm(o))) W_o; see above."""

    gate: ClassVar[str | None] = None
    """What scales the normed heads: a name of GATES, of x W_g; None: nothing."""
    filters: ClassVar[bool] = False
    """Whether the projections pass a convolution and SiLU."""
    filter_biases: ClassVar[bool] = False
    erases: ClassVar[bool] = False
    """Whether its strands erase."""

    def __init__(self, settings: ModelSettings, layout: Layout | None = None):
        super().__init__()
        layout, E = layout or Layout.of(settings), settings.embed
        self.parts, self.heads = layout.parts, layout.heads
        self.key, self.value = layout.key, layout.value
        inner = layout.heads * layout.value
        self.qkv = nn.Linear(E, sum(self.parts.values()), bias=layout.biased)
        if self.filters:
            for name, width in self.parts.items():
                self.add_module(f"conv_{name}", Filters(width, self.filter_biases))
        self.g = nn.Linear(E, inner, bias=False) if self.gate else None
        self.norm = nn.RMSNorm(self.norm_width(layout), eps=EPS)
        self.o = nn.Linear(inner, E, bias=settings.bias)
        self.out_gate = output_gate(settings)
        self.gate_heads = settings.heads
        self.gate_alpha = settings.mlp.attn_gate_alpha
        self.out_std = residual_std(settings.depth)
        self.chunk, self.impl = CHUNK, by_device(settings)

    def norm_width(self, layout: Layout) -> int:
        """Of the norm: a head's, whose weights all heads share."""
        return layout.value

    @abstractmethod
    def strands(
        self, x_BnE: torch.Tensor, parts: tuple[torch.Tensor, ...], positions: Positions
    ) -> Strands:
        """From x, the normed input, and the parts, (B, n, width) each, in fp32 at least,
        convolved where there are filters.
        """

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: RecurrentCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, RecurrentCache | None]:
        """See Mixer."""
        qkv_BnF = self.qkv(x_BnE)
        kept = self._nothing(qkv_BnF) if cache is None else cache
        mixed_BnF, tail_B3F = self._convolved(qkv_BnF, kept.tail_B3F, positions)
        strands = self._strands(x_BnE, mixed_BnF, positions)
        given = strands, kept.state_BHKV, positions
        o_BnHV, state = self._recurred(*given, qkv_BnF.dtype)
        o_BnHV = self.finished(o_BnHV, x_BnE).to(qkv_BnF.dtype)
        heads_BnHD = o_BnHV.flatten(2).unflatten(2, (self.gate_heads, -1))
        o_BnHD = scaled(heads_BnHD, x_BnE, context, self.out_gate)
        cache = None if cache is None else RecurrentCache(state, tail_B3F)
        return self.o(o_BnHD.flatten(2)), MixerToMlp(), cache

    def finished(self, o_BnHV: torch.Tensor, x_BnE: torch.Tensor) -> torch.Tensor:
        """The norm of every head, then the gate."""
        return self.gated(self.norm(o_BnHV), x_BnE)

    def gated(self, o_BnHV: torch.Tensor, x_BnE: torch.Tensor) -> torch.Tensor:
        """o times the gate, which is taken in the type of o."""
        if self.g is None:
            return o_BnHV
        gate_BnE = GATES[self.gate](self.g(x_BnE).to(o_BnHV.dtype))
        return o_BnHV * gate_BnE.view_as(o_BnHV)

    def by_head(self, x_BnF: torch.Tensor) -> torch.Tensor:
        """(B, n, H, F / H)."""
        return x_BnF.unflatten(2, (self.heads, -1))

    def _strands(
        self, x_BnE: torch.Tensor, mixed_BnF: torch.Tensor, positions: Positions
    ) -> Strands:
        wide = torch.promote_types(mixed_BnF.dtype, torch.float32)
        parts = mixed_BnF.to(wide).split(list(self.parts.values()), dim=2)
        return self.strands(x_BnE, parts, positions)

    def _recurred(
        self,
        strands: Strands,
        state_BHKV: torch.Tensor,
        positions: Positions,
        kind: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """o_BnHV and the last state; kind: of the projections, which our kernels read."""
        q, k, v, decay, erase, direct = strands
        device = q.device.type
        with torch.autocast(device, enabled=False):
            given = q, k, v, state_BHKV, positions.starts_BT, decay, erase
            o, state = run(self.impl[device], kind, *given, size=self.chunk)
        return (o if direct is None else o + direct), state

    def _convolved(
        self,
        qkv_BnF: torch.Tensor,
        tail_B3F: torch.Tensor | None,
        positions: Positions,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the filters and SiLU make of the projections, and the next tail."""
        if tail_B3F is None:
            return qkv_BnF, None
        u_BmF = torch.cat([tail_B3F, qkv_BnF], dim=1)
        filters = [self.get_submodule(f"conv_{name}") for name in self.parts]
        mixed_BnF = F.silu(convolved(u_BmF, filters, positions.starts_BT))
        return mixed_BnF, u_BmF[:, -BEFORE:].clone()

    def _nothing(self, qkv_BnF: torch.Tensor) -> RecurrentCache:
        """Before the first token."""
        B, _, channels = qkv_BnF.shape
        wide = torch.promote_types(qkv_BnF.dtype, torch.float32)
        sizes = B, self.heads, self.key, self.value
        tail = qkv_BnF.new_zeros(B, BEFORE, channels) if self.filters else None
        return RecurrentCache(qkv_BnF.new_zeros(sizes, dtype=wide), tail)

    def empty_cache(self, x_BnE: torch.Tensor) -> RecurrentCache:
        """See Mixer."""
        return self._nothing(self.qkv(x_BnE[:, :0]))

    def cache_size(self, tokens: int) -> CacheSize:
        """K V values per head in fp32 and 3 tokens of every filter's channel, whatever
        the length.
        """
        tails = BEFORE * sum(self.parts.values()) if self.filters else 0
        return CacheSize(tails, self.heads * self.key * self.value)

    def products(self, T: int) -> Products:
        """k vᵀ, Sᵀ q and, where it erases, eᵀ S, taken out along k together with what is
        added: K V per head each, whatever the length. What a chunk takes besides is no cost
        of the recurrence, nor are filters, norms and gates.
        """
        every = (3 if self.erases else 2) * self.heads * self.key * self.value
        return Products(every, every)

    def keys(self, T: int) -> int:
        """All."""
        return T

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The parts as slices of the fused projection, the gate's, o, the output gate's."""
        first = 0
        for name, width in self.parts.items():
            rows = slice(first, first + width)
            yield Matrix(f"{prefix}.{name}", self.qkv.weight, STD, rows, side="attn")
            first += width
        for name, linear in self.projections().items():
            yield Matrix(f"{prefix}.{name}", linear.weight, STD, side="attn")
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)

    def projections(self) -> dict[str, nn.Linear]:
        """Of x, beside the parts and o, by their logical names."""
        return {} if self.g is None else {"g": self.g}

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """The norm at 1; filters at U(±½), as torch starts 4 taps of one channel."""
        yield Constant(f"{prefix}.norm", self.norm.weight, 1.0)
        for name in self.parts if self.filters else ():
            weight = self.get_submodule(f"conv_{name}").weight
            yield InitialLaw(f"{prefix}.conv_{name}", weight, taps)

    def facts(self) -> dict[str, Any]:
        """See Mixer."""
        return {"heads": self.heads, "biases": self.o.bias is not None}

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """Of its state, of what it forgets, and of what scales its heads."""
        qkv_BTF = self.qkv(x_BTE)
        nothing = self._nothing(qkv_BTF)
        mixed_BTF, _ = self._convolved(qkv_BTF, nothing.tail_B3F, positions)
        strands = self._strands(x_BTE, mixed_BTF, positions)
        given = strands, nothing.state_BHKV, positions
        _, state = self._recurred(*given, qkv_BTF.dtype)
        decay, starts_BT = strands.log_decay, positions.starts_BT
        found = decay_statistics(decay, state, x_BTE[..., 0], starts_BT)
        heads_BTHD = x_BTE.unflatten(2, (self.gate_heads, -1))
        gates = context, self.out_gate, self.gate_alpha
        return found | gate_statistics(heads_BTHD, x_BTE, *gates)


def unit(x_BnHK: torch.Tensor) -> torch.Tensor:
    """x / √(Σ x² + 1e-6), head by head."""
    return x_BnHK * torch.rsqrt(x_BnHK.square().sum(-1, keepdim=True) + EPS_UNIT)
