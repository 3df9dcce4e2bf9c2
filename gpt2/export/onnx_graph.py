"""The two graphs of FORMAT=onnx, as functions that torch can trace for every length.

The model's own blocks are traced. Where their code depends on a length, another form
of the same formula takes their place: caches are joined, not written in place; the
recurrence of the linear mixer is one masked product; a top k over fewer than k keys
is taken over k zeros more.

Legend: B batch, n new tokens, S tokens so far, E width, H heads, D head width, V tokens
of the tokenizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.export.bundle import ExportError
from gpt2.model.gpt import GPT
from gpt2.model.mixers.attention.attention import AttentionCache
from gpt2.model.mixers.attention.gates import CrossTokenGate
from gpt2.model.mixers.head_gates import scaled
from gpt2.model.mixers.linear import EPS, LinearAttention, LinearCache
from gpt2.model.mlp.cross_token import CrossToken, route
from gpt2.model.values import (
    BlockToBlock,
    LayerCache,
    MixerToMlp,
    MlpCache,
    Positions,
)
from gpt2.settings.run import ModelSettings
from kernels.attention import visible

TRACED = ("attention", "linear")
"""Mixers whose decode is one function of tensors for every length."""
TOKENS = "tokens"
"""The cache of a model without one that grows: it says how many tokens there were."""


@dataclass(frozen=True)
class JoinedCache:
    """What GrowingCache holds, as a value that a graph can return."""

    tensor: torch.Tensor

    def append(self, new_Bn: torch.Tensor) -> "JoinedCache":
        """The cache with these tokens behind it."""
        return JoinedCache(torch.cat([self.tensor, new_Bn], dim=1))

    def last(self, count: int) -> "JoinedCache":
        """All tokens: the caller's band masks the others."""
        return self


class MaskedLinear(nn.Module):
    """The linear mixer (gpt2/model/mixers/linear.py) as one masked product:

    o_t = (Σ_{s≤t} (φ(q_t)·φ(k_s)) [v_s, 1] + Sᵀ φ(q_t)), S the state before.
    """

    def __init__(self, mixer: LinearAttention):
        super().__init__()
        self.mixer = mixer

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: LinearCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, LinearCache | None]:
        """See Mixer; of one document."""
        mixer, n = self.mixer, x_BnE.shape[1]
        heads = (3, mixer.heads, mixer.head_width)
        q, k, v = mixer.qkv(x_BnE).unflatten(2, heads).transpose(1, 3).unbind(2)
        q_BHnD, k_BHnD, v_BHnV = F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0)
        seen_nn = visible(n, n, None, x_BnE.device)
        weight_BHnn = torch.where(seen_nn, q_BHnD @ k_BHnD.transpose(2, 3), 0.0)
        mixed_BHnV = weight_BHnn @ v_BHnV
        if cache is not None:
            mixed_BHnV = mixed_BHnV + q_BHnD @ cache.state_BHDD1
            grown = cache.state_BHDD1 + k_BHnD.transpose(2, 3) @ v_BHnV
            cache = LinearCache(grown)
        o_BHnD = mixed_BHnV[..., :-1] / (mixed_BHnV[..., -1:] + EPS)
        o_BnHD = scaled(o_BHnD.transpose(1, 2), x_BnE, context, mixer.out_gate)
        return mixer.o(o_BnHD.flatten(2)), MixerToMlp(), cache

    def empty_cache(self, x_BnE: torch.Tensor) -> LinearCache:
        """See Mixer."""
        return self.mixer.empty_cache(x_BnE)


class PaddedGate(nn.Module):
    """The RA-CT gate of rows with k keys more, whose probabilities are 0."""

    def __init__(self, gate: CrossTokenGate):
        super().__init__()
        self.gate, self.apply_to = gate, gate.apply_to

    def forward(self, p_BHnS: torch.Tensor, mask_nS: torch.Tensor) -> torch.Tensor:
        """factor_BHn."""
        more = (0, self.gate.k)
        return self.gate(F.pad(p_BHnS, more), F.pad(mask_nS, more))


class PaddedCrossToken(nn.Module):
    """The cross-token MLP whose rows are routed among k keys more of weight 0."""

    def __init__(self, part: CrossToken):
        super().__init__()
        self.part = part
        self.read_weight, self.write_weight = part.read_weight, part.write_weight
        self.empty_mixed = part.empty_mixed

    def forward(
        self, new_Bnr: torch.Tensor, given: MixerToMlp, mixed: JoinedCache | None
    ) -> tuple[torch.Tensor, JoinedCache | None]:
        """See CrossToken."""
        part, all_BSr = self.part, new_Bnr
        if mixed is not None:
            mixed = mixed.append(new_Bnr)
            all_BSr = mixed.tensor
        padded = F.pad(given.routing_BnS, (0, part.k))
        weights_BnS = route(padded, given.seen_n, part.mode, part.k)
        r_Bnr = weights_BnS[..., : all_BSr.shape[1]] @ all_BSr
        return part.alpha * r_Bnr, mixed


def require_traceable(settings: ModelSettings) -> None:
    """Raise ExportError where a layer's decode is no function of tensors alone."""
    for i, layer in enumerate(settings.layers):
        if layer.name not in TRACED:
            raise ExportError(
                f"FORMAT=onnx cannot carry this model: layer {i} has the mixer "
                f"{layer.name}, whose decode is loops over lengths, which a graph of "
                f"ONNX would fix at one length ({', '.join(TRACED)} have a form without "
                "them); FORMAT=native keeps everything, for kablate alone to read"
            )


def traceable(model: GPT) -> GPT:
    """A copy of the model that can be traced for every length.

    Raises ExportError for a mixer that cannot.
    """
    require_traceable(model.settings)
    copied = GPT(model.settings.with_attention(impl="reference"))
    copied.load_state_dict(model.state_dict())
    for block in copied.h:
        if isinstance(block.attn, LinearAttention):
            block.attn = MaskedLinear(block.attn)
        elif block.attn.ra_ct is not None and block.attn.ra_ct.kind == "topk":
            block.attn.ra_ct = PaddedGate(block.attn.ra_ct)
        cross = block.mlp.cross_token
        if cross is not None and cross.mode == "topk":
            block.mlp.cross_token = PaddedCrossToken(cross)
    return copied.eval()


class Forward(nn.Module):
    """tokens_BT -> logits_BTV."""

    def __init__(self, model: GPT, vocabulary: int):
        super().__init__()
        self.model, self.vocabulary = model, vocabulary

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """logits_BTV."""
        return self.model(tokens)[..., : self.vocabulary]


class Decode(nn.Module):
    """(tokens_Bn, caches of S tokens) -> (logits_BnV, caches of S + n tokens); with
    caches of no tokens a text begins.
    """

    def __init__(self, model: GPT, vocabulary: int):
        super().__init__()
        self.model, self.vocabulary = model, vocabulary
        zero_11E = torch.zeros(1, 1, model.settings.embed)
        with torch.no_grad():
            self.empty = [block.empty_cache(zero_11E) for block in model.h]
        self.caches = dict(self._caches())
        self.names = list(self.caches)

    def _caches(self) -> Iterator[tuple[str, torch.Tensor]]:
        """LAYER.NAME and what is held of no tokens, [1, 0, …] where it grows."""
        grows = False
        for i, layer in enumerate(self.empty):
            for name, tensor in zip(cache_names(layer), layer.tensors(), strict=True):
                grows = grows or tensor.shape[1] == 0
                yield f"{i}.{name}", tensor
        if not grows:
            yield TOKENS, torch.zeros(1, 0, dtype=torch.long)

    def grows(self, name: str) -> bool:
        """Whether the cache holds something of every token, in dimension 1."""
        return self.caches[name].shape[1] == 0

    def forward(
        self, tokens: torch.Tensor, past: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        """logits_BnV and the caches, in the order of `names`."""
        model, held = self.model, dict(zip(self.names, past, strict=True))
        start = next(held[name] for name in self.names if self.grows(name)).shape[1]
        positions, left = Positions(start), iter(past)
        x_BnE, y_BnE, context = model.embed(tokens, positions), None, BlockToBlock()
        present: list[torch.Tensor] = []
        for block, empty in zip(model.h, self.empty):
            cache = joined(empty, left)
            given = block(x_BnE, y_BnE, context, positions, cache)
            x_BnE, y_BnE, context, cache = given
            present += cache.tensors()
        if TOKENS in held:
            present.append(torch.cat([held[TOKENS], tokens], dim=1))
        x_BnE = model.norm_f(x_BnE + y_BnE)
        logits_BnV = F.linear(x_BnE, model.wte.weight[: self.vocabulary])
        return logits_BnV, *present


def cache_names(layer: LayerCache) -> list[str]:
    """The names of `layer.tensors()`."""
    mixer, mlp = layer
    if isinstance(mixer, LinearCache):
        names = ["state"]
    else:
        heads = mixer.memory[0].tensor.dim() == 4
        names = ["keys", "values"] if heads else ["key_latents", "value_latents"]
        names = names if len(mixer.memory) == 2 else ["latents"]
        names += ["queries"] * (mixer.queries is not None)
    names += ["gate_sum"] * (mlp.total_Br is not None)
    return names + ["cross_token"] * (mlp.mixed is not None)


def joined(empty: LayerCache, left: Iterator[torch.Tensor]) -> LayerCache:
    """A layer's cache of the tensors that come next, in the order of `tensors()`."""
    mixer, mlp = empty
    if isinstance(mixer, LinearCache):
        mixer = LinearCache(next(left))
    else:
        memory = tuple(JoinedCache(next(left)) for _ in mixer.memory)
        queries = None if mixer.queries is None else JoinedCache(next(left))
        mixer = AttentionCache(memory, queries)
    total_Br = None if mlp.total_Br is None else next(left)
    mixed = None if mlp.mixed is None else JoinedCache(next(left))
    return LayerCache(mixer, MlpCache(total_Br, mixed))
