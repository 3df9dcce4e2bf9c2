"""Blocks longer than those of the small model, where a stride is more than a token.

There compression blocks of 2 begin at every token: a grid that is out of step with its
document, or a block that is made too late in a decode, would not show.
"""

import torch

from gpt2.check.proofs.sparse.part import mixers, model_of, options_of, undivided
from gpt2.check.subject import SEED, VOCABULARY, Subject, require, spread
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from kernels.nsa import grid

DOCUMENTS = (61, 70)
SIZES = {"length": 8, "stride": 4, "block": 16, "window": 21}
"""61 tokens hold 14 compression blocks of these, 70 hold 16; one grid over both 31."""
TOP = 5
CHUNKS = (1, 1, 9, 1, 30, 2, 64, 23)
TOLERANCE = 1e-9


def longer_blocks(subject: Subject) -> None:
    """With compression blocks of 8 every 4 tokens and selection blocks of 16 two packed
    documents have 30 blocks, and the logits that each has alone; a decode, token by token
    and in chunks, has the logits of the full pass. In float64, away from the initial
    values.
    """
    options = options_of(subject)
    if options is None:
        return
    sizes = SIZES | {"top": min(options.top, TOP)}
    shape = model_of(subject, undivided(subject, options, **sizes), sum(DOCUMENTS))
    model = GPT(shape)
    initialise(model, SEED)
    stream = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.double().parameters():
            noise = torch.randn(parameter.shape, generator=stream)
            parameter.add_(spread(parameter) * noise)
        tokens_1T = torch.randint(0, VOCABULARY, (1, sum(DOCUMENTS)), generator=stream)
        _packed(model.eval(), tokens_1T)
        _decoded(model, tokens_1T)


def _packed(model: GPT, tokens_1T: torch.Tensor) -> None:
    first, T = DOCUMENTS[0], tokens_1T.shape[1]
    starts_1T = torch.zeros(1, T, dtype=torch.int32)
    starts_1T[:, first:] = first
    spec = mixers(model)[0].spec
    found = int((grid(starts_1T, spec).first_BC < T).sum())
    wanted = sum((n - spec.length) // spec.stride + 1 for n in DOCUMENTS)
    require(found == wanted, f"{DOCUMENTS} tokens hold {found} blocks, not {wanted}")
    packed_1TV = model(tokens_1T, None, starts_1T)
    for part in (slice(0, first), slice(first, T)):
        _same("a packed document", packed_1TV[:, part], model(tokens_1T[:, part]))


def _decoded(model: GPT, tokens_1T: torch.Tensor) -> None:
    whole_1TV = model(tokens_1T)
    for name, chunks in (("token by token", 1), ("in chunks", CHUNKS)):
        cache, rows = None, []
        for part in tokens_1T.split(chunks, dim=1):
            logits_BnV, cache = model.decode(part, cache)
            rows.append(logits_BnV)
        _same(f"a decode {name}", torch.cat(rows, dim=1), whole_1TV)


def _same(what: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    error = (found - wanted).abs().amax(dim=(0, 2))
    wrong = (error > TOLERANCE * wanted.abs().max()).nonzero().flatten().tolist()
    require(
        not wrong,
        f"{what} has other logits at {len(wrong)} of {len(error)} places, from "
        f"{wrong[0] if wrong else None} on, by {error.max().item():.2e}",
    )
