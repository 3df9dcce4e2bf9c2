"""What flows between blocks, and what a decode remembers: values, never state.

Legend: B batch, n new tokens, S tokens so far, H heads, D head width, L latent
width.
"""

from typing import NamedTuple

import torch

from gpt2.model.cache import GrowingCache


class BlockToBlock(NamedTuple):
    """From a block to the next one of the same forward pass.

    gate_BnH: scale of each head's output, (1-α) + αγ. latent_BnL: what is added
    to the next block's key latent. None where no mechanism makes it.
    """

    gate_BnH: torch.Tensor | None = None
    latent_BnL: torch.Tensor | None = None


class Routed(NamedTuple):
    """The k keys of every query with the largest head-averaged probabilities, and
    those: int32 and fp32, constants.
    """

    index_BTk: torch.Tensor
    weight_BTk: torch.Tensor


class MixerToMlp(NamedTuple):
    """From a block's attention to its MLP.

    routing_BnS: head-averaged probabilities, seen_n the number of keys that are
    visible (seen_Bn where sequences hold documents); or routed, what the top-k routing keeps of them; latent_BnL: the
    (updated) key latents of the new tokens. None where no mechanism reads them.
    """

    routing_BnS: torch.Tensor | None = None
    seen_n: torch.Tensor | None = None
    routed: Routed | None = None
    latent_BnL: torch.Tensor | None = None


class AttentionCache(NamedTuple):
    """Of one layer. memory: per token (k, v, or the latents), each (B, S, …);
    queries: the last W of them, (B, w, H, D), for RA.
    """

    memory: tuple[GrowingCache, ...]
    queries: GrowingCache | None


class MlpCache(NamedTuple):
    """Of one layer. total_Br: fp32 sum of the gate contexts so far; mixed: h W_down
    of every token, (B, S, r), for the cross-token MLP.
    """

    total_Br: torch.Tensor | None
    mixed: GrowingCache | None


class LayerCache(NamedTuple):
    """Of one layer."""

    attention: AttentionCache
    mlp: MlpCache


class Cache(NamedTuple):
    """Of the whole model: tokens so far and one LayerCache per block."""

    length: int
    layers: tuple[LayerCache, ...]


def values(cache: LayerCache, length: int) -> tuple[int, int]:
    """(values per token, values constant in the length) that a layer's cache
    holds for one sequence, measured on its tensors; room set aside not counted.
    """
    per_token = constant = 0
    attention, mlp = cache
    for cache in (*attention.memory, mlp.mixed):
        if cache is not None:
            per_token += cache.tensor[0].numel() // length
    if attention.queries is not None:
        constant += attention.queries.tensor[0].numel()
    if mlp.total_Br is not None:
        constant += mlp.total_Br[0].numel()
    return per_token, constant
