"""A recurrence gives the same however many tokens it takes at a time."""

import torch

from gpt2.check.subject import VOCABULARY, Subject, require
from gpt2.model.gpt import GPT

SIZES = (1, 16, 64)
DOCUMENTS = (61, 70)
"""Longer than two chunks of 64 together; neither ends where a chunk does."""
PARTS = (13, 1, 50, 64, 3)
# Of float64 logits, relative to the largest; of a parameter's gradient likewise, and
# relative to the largest of the model, for one that is zero but for rounding.
TOLERANCE = 1e-9
ROUNDING = 1e-14


def any_chunk(subject: Subject) -> None:
    """With chunks of 1, 16 and 64 tokens logits and gradients are the same, of one text
    and of two documents apart, and so are the logits where a decode hands the state on at
    odd places. In float64, away from the initial values; of networks with a recurrence.
    """
    if all(block.attn.chunk is None for block in subject.build().h):
        return
    T = sum(DOCUMENTS)
    model = subject.randomised(context=T).eval()
    stream = torch.Generator().manual_seed(9)
    tokens_1T = torch.randint(0, VOCABULARY, (1, T), generator=stream)
    starts_1T = torch.zeros(1, T, dtype=torch.int32)
    starts_1T[:, DOCUMENTS[0] :] = DOCUMENTS[0]
    for starts in (None, starts_1T):
        first, *others = (_pass(model, size, tokens_1T, starts) for size in SIZES)
        for size, (logits_1TV, gradients) in zip(SIZES[1:], others):
            _same(f"chunks of {size} tokens", logits_1TV, first[0])
            _same_gradients(size, gradients, first[1])
    _handed_on(model, tokens_1T)


def _pass(
    model: GPT, size: int, tokens_1T: torch.Tensor, starts_1T: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradient of their mean square, token by token in chunks of size."""
    for block in model.h:
        if block.attn.chunk is not None:
            block.attn.chunk = size
    logits_1TV = model(tokens_1T, None, starts_1T)
    names, leaves = zip(*model.named_parameters())
    gradients = torch.autograd.grad(logits_1TV.square().mean(), leaves)
    return logits_1TV.detach(), dict(zip(names, gradients))


@torch.no_grad()
def _handed_on(model: GPT, tokens_1T: torch.Tensor) -> None:
    cache, rows = None, []
    for part_1n in tokens_1T.split(PARTS, dim=1):
        logits_1nV, cache = model.decode(part_1n, cache)
        rows.append(logits_1nV)
    what = f"a state handed on after {PARTS[0]}, {PARTS[1]}, {PARTS[2]} … tokens"
    _same(what, torch.cat(rows, dim=1), model(tokens_1T))


def _same(what: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    error, limit = (found - wanted).abs().max(), TOLERANCE * wanted.abs().max()
    why = (
        f"{what}: logits change by {error:.2e}, at most {wanted.abs().max():.2e} large"
    )
    require(bool(error <= limit), why)


def _same_gradients(
    size: int, found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> None:
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        error, limit = (found[name] - gradient).abs().max(), gradient.abs().max()
        require(
            bool(error <= TOLERANCE * limit + ROUNDING * largest),
            f"chunks of {size} tokens change the gradient of {name} by {error:.2e}, "
            f"where it is at most {limit:.2e}",
        )
