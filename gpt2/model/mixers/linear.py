"""Linear attention: a softmax's place is taken by a product of features.

Legend: B batch, n new tokens, E width, H heads, D = E / H.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import STD, Matrix, residual_std
from gpt2.model.mixers.head_gates import gate_statistics, output_gate, scaled
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mixers.recurrence_impl import by_device
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    Positions,
    Products,
)
from gpt2.settings.run import ModelSettings
from kernels.recurrence import CHUNK, run

EPS = 1e-6
"""Beside the sum of the weights: features of fp32 can be 0 all together."""


class LinearCache(NamedTuple):
    """state_BHDD1: Σ φ(k_s) [v_s, 1]ᵀ over all tokens so far, fp32 at least."""

    state_BHDD1: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """The state."""
        return [self.state_BHDD1]


class LinearAttention(Mixer):
    """o_t = Σ_{s≤t} (φ(q_t)·φ(k_s)) v_s / (Σ_{s≤t} φ(q_t)·φ(k_s) + 1e-6), with
    φ(x) = elu(x) + 1 (Katharopoulos et al. 2020, 2006.16236, section 3.2 and 3.3;
    1e-6 as in the authors' code).

    q, k, v and o are attention's: with the same names they begin with the same values.
    By `kernels.recurrence`, in fp32 at least (our kernels read q, k and v in the type of
    the projection), the sum of the weights as one more column of the values. No rotation:
    a rotated φ is not positive, and the sum could be 0.
    """

    kind = "linear"

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        E = settings.embed
        self.heads, self.head_width = settings.heads, settings.head_width
        self.qkv = nn.Linear(E, 3 * E, bias=settings.bias)
        self.o = nn.Linear(E, E, bias=settings.bias)
        self.out_gate = output_gate(settings)
        self.gate_alpha = settings.mlp.attn_gate_alpha
        self.out_std = residual_std(settings.depth)
        self.chunk = CHUNK
        self.impl = by_device(settings)

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: LinearCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, LinearCache | None]:
        """See Mixer."""
        qkv_BnF = self.qkv(x_BnE)
        q, k, v = self._features(qkv_BnF)
        state = _no_tokens(k, v) if cache is None else cache.state_BHDD1
        device, kind = x_BnE.device.type, qkv_BnF.dtype
        with torch.autocast(device, enabled=False):
            its = q, k, v, state, positions.starts_BT
            mixed, state = run(self.impl[device], kind, *its, size=self.chunk)
            o_BnHD = mixed[..., :-1] / (mixed[..., -1:] + EPS)
        o_BnHD = scaled(o_BnHD.to(qkv_BnF.dtype), x_BnE, context, self.out_gate)
        cache = None if cache is None else LinearCache(state)
        return self.o(o_BnHD.flatten(2)), MixerToMlp(), cache

    def _features(self, qkv_BnF: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """φ(q) and φ(k), (B, n, H, D), and [v, 1], (B, n, H, D + 1), in fp32 at least."""
        qkv_Bn3HD = qkv_BnF.unflatten(2, (3, self.heads, self.head_width))
        wide = torch.promote_types(qkv_Bn3HD.dtype, torch.float32)
        q, k, v = qkv_Bn3HD.to(wide).unbind(2)
        return F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0)

    def empty_cache(self, x_BnE: torch.Tensor) -> LinearCache:
        """See Mixer."""
        _, k, v = self._features(self.qkv(x_BnE[:, :0]))
        return LinearCache(_no_tokens(k, v))

    def cache_size(self, tokens: int) -> CacheSize:
        """D (D + 1) values per head, whatever the length."""
        return CacheSize(fp32=self.heads * self.head_width * (self.head_width + 1))

    def products(self, T: int) -> Products:
        """k vᵀ and Sᵀ q take D² per head each, whatever the length. The sum of the
        weights is not counted, as a norm is not; what a chunk takes besides is no cost
        of the recurrence.
        """
        both = 2 * self.heads * self.head_width**2
        return Products(both, both)

    def keys(self, T: int) -> int:
        """All."""
        return T

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """q, k and v as slices of the fused one, o, and the output gate."""
        E = self.o.in_features
        for i, name in enumerate("qkv"):
            rows = slice(i * E, (i + 1) * E)
            yield Matrix(f"{prefix}.{name}", self.qkv.weight, STD, rows, side="attn")
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)

    def facts(self) -> dict[str, Any]:
        """See Mixer."""
        return {"heads": self.heads, "biases": self.o.bias is not None}

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """Of what scales its heads."""
        heads_BnHD = x_BTE.unflatten(2, (self.heads, self.head_width))
        gates = context, self.out_gate, self.gate_alpha
        return gate_statistics(heads_BnHD, x_BTE, *gates)


def _no_tokens(k_BnHD: torch.Tensor, v_BnHV: torch.Tensor) -> torch.Tensor:
    """The state before the first token, S_BHDV = 0."""
    B, _, H, D = k_BnHD.shape
    return k_BnHD.new_zeros(B, H, D, v_BnHV.shape[3])


MIXER = LinearAttention
