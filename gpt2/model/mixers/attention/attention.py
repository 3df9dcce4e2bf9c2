"""The attention of a block: projection, score, normaliser, pattern, gates.

Legend: B batch, n new tokens, S tokens so far, E width, H heads, D head width.
starts_BT: the first token of every token's document, None where a sequence is one.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.cache import GrowingCache
from gpt2.model.initial import Matrix, residual_std
from gpt2.model.mixers.attention.gates import CrossTokenGate, OutputGate, Reciprocal
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.model.mixers.attention.latent import Latent
from gpt2.model.mixers.attention.multi_head import MultiHead
from gpt2.model.mixers.attention.torch_attention import HALF, flex, sdpa
from gpt2.model.values import AttentionCache, BlockToBlock, Routed, MixerToMlp
from gpt2.settings.run import ModelSettings
from kernels.attention import AttentionSpec, mix, normalise, reciprocal, scores, visible
from kernels.decode import MOST_NEW

PROJECTIONS = {"mha": MultiHead, "gqa": MultiHead, "mla": Latent}


class CoreOutput(NamedTuple):
    """What the core returns: head outputs; from the reference the final
    probabilities and the number of keys each query sees (seen_Bn with documents); from our kernels, where
    the MLP routes, the largest of them.
    """

    o_BnHD: torch.Tensor
    p_BHnS: torch.Tensor | None = None
    seen_n: torch.Tensor | None = None
    routed: Routed | None = None


class Attention(nn.Module):
    """y = concat_h(o_h) W_o + b_o with o = core(projection(x)), then the gates.

    Gates on o multiply, so their order does not matter: the previous block's
    MLP (context), RA-CT in output mode, the output gate.
    """

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        options, E = settings.attention, settings.embed
        self.decoder = decoder
        self.projection = PROJECTIONS[options.projection](settings)
        self.o = nn.Linear(E, E, bias=settings.bias)
        self.ra = Reciprocal(settings) if options.ra else None
        self.ra_ct = CrossTokenGate(settings) if options.ra_ct else None
        gated = options.output_gate != "none"
        self.out_gate = OutputGate(settings) if gated else None
        unsafe = "_unsafe" if options.softpick_unsafe else ""
        self.normaliser = options.normaliser + unsafe
        self.window = options.window
        self.routes, self.routed_k = (
            settings.mlp.cross_token,
            settings.mlp.cross_token_k,
        )
        self.impl = resolve_attention(settings, "cpu", half=False)
        self.gpu_impl = {
            half: resolve_attention(settings, "cuda", half) for half in (False, True)
        }
        twice = options.ra_ct_apply == "weights"
        self.packs = self.projection.packs and not twice
        self.dropout, self.longest = settings.dropout, settings.block_size
        self.out_std = residual_std(settings.layers)

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        cache: AttentionCache | None,
        starts_BT: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, MixerToMlp, AttentionCache | None]:
        """y_BnE, what the MLP reads, and the grown cache (None without one)."""
        start = len(cache.memory[0]) if cache else 0
        if cache is None and self.packs and self._impl(x_BnE) == "triton":
            core, new = self._packed(x_BnE, starts_BT), None
        else:
            q_BnHD, new = self.projection(x_BnE, context.latent_BnL, start)
            if cache is None:
                core = self._train(q_BnHD, new, starts_BT)
            else:
                core, cache = self._decode(q_BnHD, new, cache)
        o_BnHD = core.o_BnHD
        if context.gate_BnH is not None:
            o_BnHD = o_BnHD * context.gate_BnH[..., None]
        if self.out_gate is not None:
            o_BnHD = self.out_gate(o_BnHD, x_BnE)
        side = MixerToMlp(latent_BnL=self.projection.latent(new), routed=core.routed)
        if self.routes and core.routed is None:
            routing_BnS = core.p_BHnS.mean(dim=1)
            side = side._replace(routing_BnS=routing_BnS, seen_n=core.seen_n)
        return self.o(o_BnHD.flatten(2)), side, cache

    def empty_cache(self, x_BnE: torch.Tensor) -> AttentionCache:
        """A cache of no tokens, shaped for x."""
        q_B0HD, memory = self.projection(x_BnE[:, :0], None, 0)
        tapes = [GrowingCache.of(x_B0, self.longest) for x_B0 in (*memory, q_B0HD)]
        return AttentionCache(tuple(tapes[:-1]), None if self.ra is None else tapes[-1])

    def probabilities(
        self,
        x_BTE: torch.Tensor,
        context: BlockToBlock,
        starts_BT: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The final p_BHTT that this attention mixes values with, by reference."""
        q_BTHD, memory = self.projection(x_BTE, context.latent_BnL, 0)
        k_BTGD, v_BTGD = self.projection.expand(memory)
        return self._reference(q_BTHD, k_BTGD, v_BTGD, starts_BT).p_BHnS

    def _impl(self, x: torch.Tensor) -> str:
        """What computes attention on x's device, in the type that products have."""
        if not x.is_cuda:
            return self.impl
        return self.gpu_impl[torch.is_autocast_enabled("cuda") or x.dtype in HALF]

    def _packed(
        self, x_BTE: torch.Tensor, starts_BT: torch.Tensor | None
    ) -> CoreOutput:
        """All tokens by our own kernels, which read the fused projection."""
        from kernels.attention.packed import attention_packed, parts

        H = self.projection.heads
        qkv_BTND = self.projection.packed(x_BTE)
        attend = partial(attention_packed, qkv_BTND, H)
        return self._fused(attend, *parts(qkv_BTND, H)[:2], starts_BT)

    def _train(
        self,
        q_BTHD: torch.Tensor,
        memory: tuple[torch.Tensor, ...],
        starts_BT: torch.Tensor | None,
    ) -> CoreOutput:
        """All tokens at once, expanded."""
        k_BTGD, v_BTGD = self.projection.expand(memory)
        impl = self._impl(q_BTHD)
        if impl == "sdpa":
            return CoreOutput(self._sdpa(q_BTHD, k_BTGD, v_BTGD, starts_BT))
        if impl == "flex":
            return CoreOutput(flex(q_BTHD, k_BTGD, v_BTGD, self.window, starts_BT))
        if impl == "triton":
            return self._triton(q_BTHD, k_BTGD, v_BTGD, starts_BT)
        return self._reference(q_BTHD, k_BTGD, v_BTGD, starts_BT)

    def _reference(
        self,
        q_BTHD: torch.Tensor,
        k_BTGD: torch.Tensor,
        v_BTGD: torch.Tensor,
        starts_BT: torch.Tensor | None,
    ) -> CoreOutput:
        """Plain torch, with the T x T matrix."""
        s_BHTT = scores(q_BTHD, k_BTGD)
        if self.ra is not None:
            s_BHTT = s_BHTT + self._transposed(q_BTHD, k_BTGD, q_BTHD.shape[1])
        return self._finish(s_BHTT, lambda p_BHTT: mix(p_BHTT, v_BTGD), starts_BT)

    def _decode(
        self,
        q_BnHD: torch.Tensor,
        new: tuple[torch.Tensor, ...],
        cache: AttentionCache,
    ) -> tuple[CoreOutput, AttentionCache]:
        """New tokens against everything cached."""
        tapes = tuple(tape.append(x_Bn) for tape, x_Bn in zip(cache.memory, new))
        memory, queries = tuple(tape.tensor for tape in tapes), cache.queries
        queries_BwHD = k_BnGD = None
        if queries is not None:
            queries = queries.append(q_BnHD)
            queries_BwHD, k_BnGD = queries.tensor, self.projection.expand(new)[0]
            queries = queries.last(self.ra.band)
        ours = self.decoder == "triton" and q_BnHD.shape[1] <= MOST_NEW
        step = self._step if ours else self._step_reference
        core = step(q_BnHD, memory, queries_BwHD, k_BnGD)
        return core, AttentionCache(tapes, queries)

    def _step_reference(
        self,
        q_BnHD: torch.Tensor,
        memory: tuple[torch.Tensor, ...],
        queries_BwHD: torch.Tensor | None,
        k_BnGD: torch.Tensor | None,
    ) -> CoreOutput:
        """Plain torch; any number of new tokens, any mechanism."""
        s_BHnS = self.projection.scores(q_BnHD, memory)
        if self.ra is not None:
            total = memory[0].shape[1]
            s_BHnS = s_BHnS + self._transposed(queries_BwHD, k_BnGD, total)
        return self._finish(s_BHnS, lambda p_BHnS: self.projection.mix(p_BHnS, memory))

    def _step(
        self,
        q_BnHD: torch.Tensor,
        memory: tuple[torch.Tensor, ...],
        queries_BwHD: torch.Tensor | None,
        k_BnGD: torch.Tensor | None,
    ) -> CoreOutput:
        """By our own kernels, a few new tokens (gpt2/model/mixers/attention/decoder.py).

        Raises ValueError where probabilities would be dropped.
        """
        from kernels.decode import attention_decode

        if self.training and self.dropout > 0:
            raise ValueError("our kernels decode without dropout: call model.eval()")
        scale = 1 / math.sqrt(self.projection.head_width)
        c_BnHV = attention_decode(
            self.projection.decode_query(q_BnHD),
            *self.projection.decode_keys_values(memory),
            self._spec(scale=scale),
            queries_BwHD,
            k_BnGD,
        )
        return CoreOutput(self.projection.decode_output(c_BnHV))

    def _spec(self, **more) -> AttentionSpec:
        """What our kernels are asked for."""
        spec = AttentionSpec(self.normaliser, window=self.window, **more)
        if self.ra is None:
            return spec
        return spec._replace(alpha=self.ra.alpha_H.float(), band=self.ra.band)

    def _transposed(
        self, q_BwHD: torch.Tensor, k_BnGD: torch.Tensor, total: int
    ) -> torch.Tensor:
        """α_h q_s · k_t inside the band, r_BHnS."""
        r_BHnS = reciprocal(q_BwHD, k_BnGD, total, self.ra.band)
        return self.ra.alpha_H[:, None, None] * r_BHnS

    def _finish(
        self, s_BHnS: torch.Tensor, mixed, starts_BT: torch.Tensor | None = None
    ) -> CoreOutput:
        """Scores to head outputs: normaliser, RA-CT, dropout, values."""
        mask_nS = visible(*s_BHnS.shape[2:], self.window, s_BHnS.device, starts_BT)
        p_BHnS, factor_BHn = normalise(s_BHnS, mask_nS, self.normaliser), None
        if self.ra_ct is not None:
            factor_BHn = self.ra_ct(p_BHnS, mask_nS)
            if self.ra_ct.apply_to == "weights":
                s_BHnS = factor_BHn[..., None] * s_BHnS
                p_BHnS, factor_BHn = normalise(s_BHnS, mask_nS, self.normaliser), None
        o_BnHD = mixed(F.dropout(p_BHnS, self.dropout, self.training))
        if factor_BHn is not None:
            o_BnHD = o_BnHD * _per_query(factor_BHn)
        seen_n = mask_nS.sum(dim=-1)
        return CoreOutput(o_BnHD, p_BHnS, seen_n if starts_BT is None else seen_n[:, 0])

    def _sdpa(
        self,
        q_BTHD: torch.Tensor,
        k_BTGD: torch.Tensor,
        v_BTGD: torch.Tensor,
        starts_BT: torch.Tensor | None,
    ) -> torch.Tensor:
        """Plain softmax attention by torch's fused op, o_BTHD."""
        q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTGD, v_BTGD))
        mask_TT, T = None, q.shape[2]
        if self.window is not None or starts_BT is not None:
            mask_TT = visible(T, T, self.window, q.device, starts_BT)
        with sdpa(q, mask_TT):
            o_BHTD = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask_TT,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=mask_TT is None,
                enable_gqa=k.shape[1] != q.shape[1],
            )
        return o_BHTD.transpose(1, 2)

    def _triton(
        self,
        q_BTHD: torch.Tensor,
        k_BTGD: torch.Tensor,
        v_BTGD: torch.Tensor,
        starts_BT: torch.Tensor | None,
    ) -> CoreOutput:
        """All tokens by our own kernels."""
        from kernels.attention.fused import attention_fused, row_statistics

        gate = self.ra_ct
        if gate is not None and gate.apply_to == "weights":
            asked = self._spec(starts=starts_BT, statistics=(gate.kind,), top=gate.k)
            rows = row_statistics(q_BTHD, k_BTGD, asked)
            # A scale of the scores of a row is a scale of its query.
            q_BTHD = (_per_query(gate.factor(rows[gate.kind])) * q_BTHD).to(q_BTHD)
        attend = partial(attention_fused, q_BTHD, k_BTGD, v_BTGD)
        return self._fused(attend, q_BTHD, k_BTGD, starts_BT)

    def _fused(
        self,
        attend: Callable,
        q_BTHD: torch.Tensor,
        k_BTGD: torch.Tensor,
        starts_BT: torch.Tensor | None,
    ) -> CoreOutput:
        """Any score, normaliser and pattern; RA-CT from the statistics that the
        kernels gather, the routing from their row sums.
        """
        from kernels.topk_routing.op import topk_routing

        gate, wanted, top = self.ra_ct, ("lse",) * self.routes, None
        if gate is not None and gate.apply_to == "output":
            wanted, top = (*wanted, gate.kind), gate.k
        spec = self._spec(starts=starts_BT, statistics=wanted, top=top)
        found = attend(spec)
        o_BTHD, rows = found if wanted else (found, {})
        if gate is not None and gate.apply_to == "output":
            o_BTHD = o_BTHD * _per_query(gate.factor(rows[gate.kind]))
        routed = None
        if self.routes:
            routed = Routed(
                *topk_routing(q_BTHD, k_BTGD, rows["lse"], self.routed_k, spec)
            )
        return CoreOutput(o_BTHD, routed=routed)

    def cache_constant(self) -> int:
        """Values a decode keeps whatever the length: RA's last W queries."""
        if self.ra is None:
            return 0
        return self.ra.band * self.projection.heads * self.projection.head_width

    def products(self, T: int) -> tuple[int, int]:
        """Multiply-adds of a token by what is no weight: with all T keys, and others.

        q·k and p·v take E each with every key, whatever the window; RA's transposed
        score takes E with each of the min(W + 1, T) keys of its band.
        """
        E = self.projection.heads * self.projection.head_width
        reciprocal = 0 if self.ra is None else E * min(self.ra.band + 1, T)
        return 2 * E * T, reciprocal

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of the projection, o, and the output gate."""
        yield from self.projection.matrices(prefix)
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)


def _per_query(factor_BHn: torch.Tensor) -> torch.Tensor:
    """factor_BnH1, for x_BnHD."""
    return factor_BHn.transpose(1, 2)[..., None]
