"""A cached decode is the forward pass, and caches what the report says."""

import torch

from gpt2.check.subject import Subject, require
from gpt2.model.gpt import GPT
from gpt2.model.values import Cache

# Of float64 logits, relative to the largest.
TOLERANCE = 1e-9
CHUNKS = (1, 1, 7, 20, 1, 18)


def decoding(subject: Subject) -> None:
    """Token by token and in chunks, decode equals forward, and the cache of every
    layer holds the values and the bytes that the accounting counts, in bf16 too.

    In float64, away from the initial values: there a gate does next to nothing.
    """
    model = subject.randomised().eval()
    tokens_BT = subject.tokens()[:, :-1]
    with torch.no_grad():
        full_BTV = model(tokens_BT)
    cache, rows = None, []
    for chunk in tokens_BT.split(CHUNKS, dim=1):
        logits_BnV, cache = model.decode(chunk, cache)
        rows.append(logits_BnV)
    error = (torch.cat(rows, dim=1) - full_BTV).abs().max().item()
    limit = TOLERANCE * full_BTV.abs().max().item()
    require(error <= limit, f"decode differs from forward by {error:.2e}")
    _counted(model, cache, element=8)
    model = subject.build().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, cache = model.decode(tokens_BT[:, : CHUNKS[2]])
    _counted(model, cache, element=2)


def _counted(model: GPT, cache: Cache, element: int) -> None:
    """Values and bytes of every layer; element: bytes of what products give."""
    for i, (block, layer) in enumerate(zip(model.h, cache.layers)):
        size, tensors = block.cache_size(cache.length), [t[0] for t in layer.tensors()]
        found = sum(t.numel() for t in tensors), sum(t.nbytes for t in tensors)
        wide = max(element, 4)
        claimed = size.total, size.bytes(element) + (wide - 4) * size.fp32
        require(
            found == claimed,
            f"after {cache.length} tokens the cache of h.{i} holds {found[0]} values, "
            f"{found[1]} bytes; the accounting says {claimed[0]} and {claimed[1]}",
        )
