"""Strict causality, bit for bit, and no mixing of sequences."""

import torch

from gpt2.check.subject import CONTEXT, VOCABULARY, Subject, require
from gpt2.model.gpt import GPT


def causality(subject: Subject) -> None:
    """No logit at or before t changes when tokens after t change, and no logit of
    a sequence when another sequence of the batch changes.

    In training with gradients, in training without, and in evaluation; at the
    first, the middle and the last position that has a future; and the changed
    position itself does change.
    """
    model = subject.build()
    for training, gradients in ((True, True), (True, False), (False, False)):
        model.train(training)
        with torch.set_grad_enabled(gradients):
            _future(model, subject.tokens()[:, :-1])
            _neighbours(model, subject.tokens()[:, :-1])


def _future(model: GPT, tokens_BT: torch.Tensor) -> None:
    before_BTV = model(tokens_BT)
    for t in (0, CONTEXT // 2, CONTEXT - 2):
        other_BT = tokens_BT.clone()
        other_BT[:, t + 1 :] = (other_BT[:, t + 1 :] + 1) % VOCABULARY
        after_BTV = model(other_BT)
        require(
            torch.equal(before_BTV[:, : t + 1], after_BTV[:, : t + 1]),
            f"logits up to position {t} depend on tokens after it",
        )
        require(
            not torch.equal(before_BTV[:, t + 1], after_BTV[:, t + 1]),
            f"logits at position {t + 1} do not depend on its token",
        )


def _neighbours(model: GPT, tokens_BT: torch.Tensor) -> None:
    other_BT = tokens_BT.clone()
    other_BT[1] = (other_BT[1] + 1) % VOCABULARY
    same = torch.equal(model(tokens_BT)[0], model(other_BT)[0])
    require(same, "logits of a sequence depend on another one of the batch")


def reach(subject: Subject) -> None:
    """The last logits depend on each earlier token; with a sliding window on each
    that the layers together can reach.
    """
    model = subject.build().eval()
    tokens_BT = subject.tokens(batch=1)[:, :-1]
    last = CONTEXT - 1
    embedded = []

    def keep(module, arguments, output):
        output.retain_grad()
        embedded.append(output)

    handle = model.wte.register_forward_hook(keep)
    model(tokens_BT)[:, last].square().sum().backward()
    handle.remove()
    heard_T = embedded[0].grad.abs().amax(dim=(0, 2))
    back = sum(block.attn.keys(CONTEXT) - 1 for block in model.h)
    first = max(last - back, 0)
    deaf = [t for t in range(first, CONTEXT) if heard_T[t] == 0]
    require(not deaf, f"the last position does not hear positions {deaf}")


def longer_context(subject: Subject) -> None:
    """At the configured compute type and context length (256 at most, for the
    time it takes) the first half does not hear the second: a mask that holds at
    48 tokens in fp32 holds there too.
    """
    tokens_BT = subject.long_tokens()
    model = subject.build(context=tokens_BT.shape[1])
    T = tokens_BT.shape[1]
    half = T // 2
    other_BT = tokens_BT.clone()
    other_BT[:, half:] = (other_BT[:, half:] + 1) % VOCABULARY
    with torch.no_grad(), subject.autocast():
        before_BTV, after_BTV = model(tokens_BT), model(other_BT)
    require(
        torch.equal(before_BTV[:, :half], after_BTV[:, :half]),
        f"logits up to position {half - 1} of {T} depend on tokens after it",
    )
