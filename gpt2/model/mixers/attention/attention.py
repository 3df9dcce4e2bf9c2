"""The attention of a block: projections, gates, cache; its cores compute the rest.

Legend: B batch, n new tokens, S tokens so far, E width, H heads, D head width.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.cache import GrowingCache
from gpt2.model.initial import Constant, Matrix, residual_std
from gpt2.model.mixers.attention import cores
from gpt2.model.mixers.attention.cores import CoreOutput, Memory
from gpt2.model.mixers.attention.gates import CrossTokenGate, Reciprocal
from gpt2.model.mixers.attention.heads import head_statistics
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.model.mixers.attention.latent import Latent
from gpt2.model.mixers.attention.multi_head import MultiHead
from gpt2.model.mixers.attention.torch_attention import HALF
from gpt2.model.mixers.head_gates import gate_statistics, output_gate, scaled
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    Positions,
    Products,
    mean_keys,
)
from gpt2.settings.run import ModelSettings
from kernels.attention.spec import AttentionSpec
from kernels.decode import MOST_NEW

PROJECTIONS = {"mha": MultiHead, "gqa": MultiHead, "mla": Latent}


class AttentionCache(NamedTuple):
    """memory: per token (k, v, or the latents), each (B, S, …); queries: the last W of
    them, (B, w, H, D), for RA.
    """

    memory: tuple[GrowingCache, ...]
    queries: GrowingCache | None

    def tensors(self) -> list[torch.Tensor]:
        """All it holds, without the room that is set aside."""
        found = (*self.memory, self.queries)
        return [cache.tensor for cache in found if cache is not None]


class Attention(Mixer):
    """y = concat_h(o_h) W_o + b_o with o = core(projection(x)), then the gates.

    Gates on o multiply, so their order does not matter: the previous block's
    MLP (context), RA-CT in output mode, the output gate.
    """

    kind, has_probabilities = "attention", True

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        options, E = settings.attention, settings.embed
        self.decoder = decoder
        self.projection = PROJECTIONS[options.projection](settings)
        self.o = nn.Linear(E, E, bias=settings.bias)
        self.ra = Reciprocal(settings) if options.ra else None
        self.ra_ct = CrossTokenGate(settings) if options.ra_ct else None
        self.out_gate = output_gate(settings)
        unsafe = "_unsafe" if options.softpick_unsafe else ""
        self.normaliser = options.normaliser + unsafe
        self.window = options.window
        self.routes = settings.mlp.cross_token
        self.routed_k = settings.mlp.cross_token_k if self.routes else None
        self.gate_alpha = settings.mlp.attn_gate_alpha
        self.impl = resolve_attention(settings, "cpu", half=False)
        self.gpu_impl = {
            half: resolve_attention(settings, "cuda", half) for half in (False, True)
        }
        twice = options.ra_ct_apply == "weights"
        self.packs = self.projection.packs and not twice
        self.dropout, self.longest = settings.dropout, settings.block_size
        self.out_std = residual_std(settings.depth)

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: AttentionCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, AttentionCache | None]:
        """See Mixer."""
        spec = self._spec(positions)
        if cache is None and self.packs and self._impl(x_BnE) == "triton":
            qkv_BnND, H = self.projection.packed(x_BnE), self.projection.heads
            core, new = cores.packed(qkv_BnND, H, spec, self.ra_ct, self.routed_k), None
        else:
            q_BnHD, new = self.projection(x_BnE, context.latent_BnL, positions.start)
            if cache is None:
                core = self._train(q_BnHD, new, spec)
            else:
                core, cache = self._decode(q_BnHD, new, cache, spec)
        o_BnHD = scaled(core.o_BnHD, x_BnE, context, self.out_gate)
        given = MixerToMlp(latent_BnL=self.projection.latent(new), routed=core.routed)
        if self.routes and core.routed is None:
            routing_BnS = core.p_BHnS.mean(dim=1)
            given = given._replace(routing_BnS=routing_BnS, seen_n=core.seen_n)
        return self.o(o_BnHD.flatten(2)), given, cache

    def empty_cache(self, x_BnE: torch.Tensor) -> AttentionCache:
        """See Mixer."""
        q_B0HD, memory = self.projection(x_BnE[:, :0], None, 0)
        *kept, queries = (
            GrowingCache.of(x_B0, self.longest) for x_B0 in (*memory, q_B0HD)
        )
        return AttentionCache(tuple(kept), None if self.ra is None else queries)

    def cache_size(self, tokens: int) -> CacheSize:
        """Keys and values, or latents, of every token; RA's last W queries."""
        width = self.projection.heads * self.projection.head_width
        queries = 0 if self.ra is None else width * min(self.ra.band, tokens)
        return CacheSize(self.projection.cache_per_token() * tokens + queries)

    def probabilities(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> torch.Tensor:
        """See Mixer."""
        q_BTHD, memory = self.projection(x_BTE, context.latent_BnL, positions.start)
        expanded, spec = self.projection.expand(memory), self._spec(positions)
        dropout = self._dropout
        core = cores.reference(q_BTHD, *expanded, spec, self.ra_ct, dropout)
        return core.p_BHnS

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """See gpt2/model/statistics.py."""
        q_BTHD, memory = self.projection(x_BTE, context.latent_BnL, positions.start)
        k_BTGD, _ = self.projection.expand(memory)
        p_BHTT = self.probabilities(x_BTE, context, positions)
        spec = self._spec(positions)
        found = head_statistics(q_BTHD, k_BTGD, p_BHTT, spec, self.ra_ct)
        gates = context, self.out_gate, self.gate_alpha
        return found | gate_statistics(q_BTHD, x_BTE, *gates)

    def products(self, T: int) -> Products:
        """q·k and p·v take E each with every key that is seen, RA's transposed score E
        with each that lies in its band too, the query's own included.
        """
        E, keys = self.projection.heads * self.projection.head_width, self.keys(T)
        band = 0 if self.ra is None else E * min(self.ra.band + 1, keys)
        return Products(2 * E * keys + band, 2 * E * mean_keys(T, keys) + band)

    def keys(self, T: int) -> int:
        """The window, or all."""
        return T if self.window is None else min(self.window, T)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of the projection, o, and the output gate."""
        yield from self.projection.matrices(prefix)
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Of RA and RA-CT."""
        for name in ("ra", "ra_ct"):
            part = getattr(self, name)
            if part is not None:
                yield from part.initial_laws(f"{prefix}.{name}")

    def facts(self) -> dict[str, Any]:
        """See Mixer."""
        return {
            "heads": self.projection.heads,
            "kv_heads": self.projection.kv_heads,
            "latent": self.projection.latent_width(),
            "ra_alpha": None if self.ra is None else self.ra.start,
            "ra_band": None if self.ra is None else self.ra.band,
            "ra_learned": self.ra is not None and self.ra.learned,
            "ra_ct": None if self.ra_ct is None else self.ra_ct.name,
            "window": self.window,
            "biases": self.o.bias is not None,
        }

    def _spec(self, positions: Positions) -> AttentionSpec:
        """What the cores compute; α as it is held."""
        spec = AttentionSpec(self.normaliser, window=self.window)
        if self.ra is not None:
            spec = spec._replace(alpha=self.ra.alpha_H, band=self.ra.band)
        return spec._replace(starts=positions.starts_BT)

    def _dropout(self, p_BHnS: torch.Tensor) -> torch.Tensor:
        return F.dropout(p_BHnS, self.dropout, self.training)

    def _impl(self, x: torch.Tensor) -> str:
        """What computes attention on x's device, in the type that products have."""
        if not x.is_cuda:
            return self.impl
        return self.gpu_impl[torch.is_autocast_enabled("cuda") or x.dtype in HALF]

    def _train(
        self, q_BTHD: torch.Tensor, memory: Memory, spec: AttentionSpec
    ) -> CoreOutput:
        """All tokens at once, expanded."""
        qkv = q_BTHD, *self.projection.expand(memory)
        impl = self._impl(q_BTHD)
        if impl == "sdpa":
            return cores.sdpa(*qkv, spec, self.dropout if self.training else 0.0)
        if impl == "flex":
            return cores.flex(*qkv, spec)
        if impl == "triton":
            return cores.triton(*qkv, spec, self.ra_ct, self.routed_k)
        return cores.reference(*qkv, spec, self.ra_ct, self._dropout)

    def _decode(
        self,
        q_BnHD: torch.Tensor,
        new: Memory,
        cache: AttentionCache,
        spec: AttentionSpec,
    ) -> tuple[CoreOutput, AttentionCache]:
        """New tokens against everything cached."""
        # What a mechanism adds may be wider than products under autocast.
        caches = tuple(
            c.append(x.to(c.tensor.dtype)) for c, x in zip(cache.memory, new)
        )
        memory, queries = tuple(cache.tensor for cache in caches), cache.queries
        queries_BwHD = k_BnGD = None
        if queries is not None:
            queries = queries.append(q_BnHD)
            queries_BwHD, k_BnGD = queries.tensor, self.projection.expand(new)[0]
            queries = queries.last(self.ra.band)
        ours = self.decoder == "triton" and q_BnHD.shape[1] <= MOST_NEW
        step = self._step if ours else self._step_reference
        core = step(q_BnHD, memory, queries_BwHD, k_BnGD, spec)
        return core, AttentionCache(caches, queries)

    def _step_reference(
        self,
        q_BnHD: torch.Tensor,
        memory: Memory,
        queries_BwHD: torch.Tensor | None,
        k_BnGD: torch.Tensor | None,
        spec: AttentionSpec,
    ) -> CoreOutput:
        """Plain torch; any number of new tokens, any mechanism."""
        s_BHnS = self.projection.scores(q_BnHD, memory)
        band, gates = (queries_BwHD, k_BnGD), (self.ra_ct, self._dropout)

        def mixed(p_BHnS: torch.Tensor) -> torch.Tensor:
            return self.projection.mix(p_BHnS, memory)

        return cores.decode_reference(s_BHnS, mixed, *band, spec, *gates)

    def _step(
        self,
        q_BnHD: torch.Tensor,
        memory: Memory,
        queries_BwHD: torch.Tensor | None,
        k_BnGD: torch.Tensor | None,
        spec: AttentionSpec,
    ) -> CoreOutput:
        """By our own kernels, a few new tokens (gpt2/model/mixers/attention/decoder.py).

        Raises ValueError where probabilities would be dropped.
        """
        if self.training and self.dropout > 0:
            raise ValueError("our kernels decode without dropout: call model.eval()")
        q_BnHC = self.projection.decode_query(q_BnHD)
        shared = self.projection.decode_keys_values(memory)
        spec = spec._replace(scale=1 / math.sqrt(self.projection.head_width))
        c_BnHV = cores.decode(q_BnHC, *shared, queries_BwHD, k_BnGD, spec)
        return CoreOutput(self.projection.decode_output(c_BnHV))


MIXER = Attention
