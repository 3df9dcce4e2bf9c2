"""Log-probabilities of given tokens: what texts and tasks are both made of.

    log p = sum over k of log softmax(z_k)[target_k]

in nats, z_k the logits after an input, over the tokens of the tokenizer: a row
that only pads the embedding is no token and has no share.

Legend: B windows, T inputs, n targets, V tokens of the tokenizer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.generation.generate import Trained


@dataclass(frozen=True)
class Window:
    """What the model reads, and what follows the last len(targets) of it.

    inputs: (T,) and targets: (n,), integers, 1 <= n <= T <= context; targets[-1]
    follows inputs[-1], and targets[:-1] are the inputs before it.
    """

    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Scored:
    """log p of a window's targets in nats, and whether each of them is the most
    probable token (of equal ones the first).
    """

    log_probability: float
    greedy: bool


def pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """(tokens that are read, tokens that are scored after them) of two texts.

    Blanks that end the context belong to the continuation, as in lm-eval: most words
    open with theirs. The two are encoded together, and what follows the context's
    own tokens is scored. Where they are not the first of the whole, because a token
    reaches over the join, the continuation is encoded by itself. So the scored tokens
    are the bytes of the continuation (and those blanks), each once, and no other.
    An empty context is the separator. Raises TokenizerError.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    before = tokenizer.encode(kept).tolist()
    whole = tokenizer.encode(kept + continuation).tolist()
    n = len(before)
    after = (
        whole[n:] if whole[:n] == before else tokenizer.encode(continuation).tolist()
    )
    return before or [tokenizer.eot], after


def score(trained: Trained, windows: Iterable[Window], batch: int) -> Iterator[Scored]:
    """The windows' scores in their order, `batch` windows to a forward pass.

    Shorter windows are padded behind their end, which no causal model sees.
    """
    ahead = iter(windows)
    while group := list(islice(ahead, batch)):
        yield from _together(trained, group)


@torch.no_grad()
def _together(trained: Trained, group: list[Window]) -> list[Scored]:
    longest = max(len(window.inputs) for window in group)
    tokens_BT = np.zeros((len(group), longest), np.int64)
    for row, window in enumerate(group):
        tokens_BT[row, : len(window.inputs)] = window.inputs
    logits_BTV = trained.model(torch.from_numpy(tokens_BT).to(trained.kind))
    found = []
    for row, window in enumerate(group):
        end, n = len(window.inputs), len(window.targets)
        logits_nV = logits_BTV[row, end - n : end, : trained.tokenizer.vocab_size]
        target_n = torch.from_numpy(window.targets.astype(np.int64)).to(trained.kind)
        lost_n = F.cross_entropy(logits_nV, target_n, reduction="none")
        greedy = bool((logits_nV.argmax(dim=-1) == target_n).all())
        found.append(Scored(-lost_n.double().sum().item(), greedy))
    return found
