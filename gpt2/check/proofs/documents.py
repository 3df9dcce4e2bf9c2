"""Documents packed into a sequence do not see each other."""

import torch

from gpt2.check.subject import VOCABULARY, Subject, require
from gpt2.data.documents import starts_of
from gpt2.model.gpt import GPT

# Tokens of the documents of a sequence (CONTEXT in all), in this order and in the reverse one: alone,
# shorter than the band and the window, longer, and longer than both together.
LENGTHS = (1, 2, 5, 17, 23)
SEPARATOR = VOCABULARY - 1
# Of float64 logits, relative to the largest; of a parameter's gradient likewise, and
# relative to the largest of the model, for one that is zero but for rounding.
TOLERANCE = 1e-9
ROUNDING = 1e-14


def documents(subject: Subject) -> None:
    """Kept apart, packed documents have the logits that each has alone, and their
    loss the gradient; when one changes, nothing of another does, bit for bit.

    Whatever the model's attention, and whether or not the step trains this way:
    then it does so with CONFIG_DOCUMENTS_APART=y as well. The first is in float64,
    away from the initial values. A sequence begins inside a document, every other
    document opens with the separator.
    """
    rows_BT = _packed(subject)
    _alone(subject, rows_BT)
    _unheard(subject.build(), rows_BT[:, :-1])


def _packed(subject: Subject) -> torch.Tensor:
    """Two sequences of documents, T one more than the context."""
    rows_BT = subject.tokens()
    rows_BT[rows_BT == SEPARATOR] = 0
    for row_T, bounds in zip(rows_BT, _bounds()):
        for first, _ in bounds[1:]:
            row_T[first] = SEPARATOR
    return rows_BT


def _bounds() -> list[list[tuple[int, int]]]:
    """(first, behind the last) of every document of the two sequences."""
    found = []
    for lengths in (LENGTHS, LENGTHS[::-1]):
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        found.append(list(zip([0, *ends], ends)))
    return found


def _alone(subject: Subject, rows_BT: torch.Tensor) -> None:
    """Logits and gradient against those of every document by itself."""
    packed, single = subject.randomised(), subject.randomised()
    tokens_BT, targets_BT = rows_BT[:, :-1], rows_BT[:, 1:]
    starts_BT = starts_of(tokens_BT, SEPARATOR)
    logits_BTV = packed(tokens_BT, None, starts_BT).detach()
    for row, bounds in enumerate(_bounds()):
        for first, end in bounds:
            part_1n = tokens_BT[row : row + 1, first:end]
            wanted_nV = single(part_1n)[0].detach()
            error = (logits_BTV[row, first:end] - wanted_nV).abs().max()
            require(
                bool(error <= TOLERANCE * wanted_nV.abs().max()),
                f"a document of {end - first} tokens behind {first} others has other "
                f"logits than alone, by {error:.2e}",
            )
            share = (end - first) / tokens_BT.numel()
            loss = single(part_1n, targets_BT[row : row + 1, first:end])
            (share * loss).backward()
    packed(tokens_BT, targets_BT, starts_BT).backward()
    largest = max(p.grad.abs().max() for p in single.parameters())
    for (name, p), q in zip(packed.named_parameters(), single.parameters()):
        error, limit = (p.grad - q.grad).abs().max(), TOLERANCE * q.grad.abs().max()
        require(
            bool(error <= limit + ROUNDING * largest),
            f"the gradient of {name} for packed documents differs from that for each "
            f"alone by {error:.2e}, where it is at most {q.grad.abs().max():.2e}",
        )


def _unheard(model: GPT, tokens_BT: torch.Tensor) -> None:
    """One document changes and the others do not."""
    starts_BT = starts_of(tokens_BT, SEPARATOR)
    before_BTV = model(tokens_BT, None, starts_BT)
    for number in range(len(LENGTHS)):
        other_BT, outside_BT = tokens_BT.clone(), torch.ones_like(tokens_BT).bool()
        for row, bounds in enumerate(_bounds()):
            first, end = bounds[number]
            text_n = other_BT[row, first:end]
            changed_n = (text_n + 1) % SEPARATOR
            text_n.copy_(torch.where(text_n == SEPARATOR, text_n, changed_n))
            outside_BT[row, first:end] = False
        after_BTV = model(other_BT, None, starts_BT)
        heard_BT = (before_BTV != after_BTV).any(dim=-1)
        require(
            not bool(heard_BT[outside_BT].any()),
            f"logits depend on document {number + 1} of {len(LENGTHS)} that lie "
            "outside it",
        )
        length = min(LENGTHS[number], LENGTHS[-1 - number])
        require(
            length < 2 or bool(heard_BT[~outside_BT].any()),
            f"logits inside document {number + 1} do not depend on it",
        )
