"""A cached decode is the forward pass, and caches what the report says."""

import torch

from gpt2.check.subject import CONTEXT, Subject, require
from gpt2.model.costs import count
from gpt2.model.values import values

# Of float64 logits, relative to the largest.
TOLERANCE = 1e-9
CHUNKS = (1, 1, 7, 20, 1, 18)


def decoding(subject: Subject) -> None:
    """Token by token and in chunks, decode equals forward, and the cache holds the
    values per token, and constant in the length, that the accounting counts.

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
    facts, interior = count(model), (len(model.h) - 1) // 2
    found = values(cache.layers[interior], CONTEXT)
    claimed = (facts.cache_per_token_layer, facts.cache_constant_layer)
    require(
        found == claimed,
        f"the cache holds {found[0]} values per token and {found[1]} constant, the "
        f"accounting says {claimed[0]} and {claimed[1]}",
    )
