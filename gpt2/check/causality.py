"""Strict causality, bit for bit."""

import torch

from gpt2.check.subject import CONTEXT, VOCABULARY, Subject, require


def causality(subject: Subject) -> None:
    """No logit at or before t changes when tokens after t change.

    In training and in evaluation mode, at the first, the middle and the last
    position that has a future; and the changed position itself does change.
    """
    model = subject.build()
    tokens_BT = subject.tokens()[:, :-1]
    for training in (True, False):
        model.train(training)
        with torch.no_grad():
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


def reach(subject: Subject) -> None:
    """Every position is heard: the last logits depend on each earlier token."""
    model = subject.build().eval()
    tokens_BT = subject.tokens(batch=1)[:, :-1]
    last = CONTEXT - 1
    embedded = []
    handle = model.wte.register_forward_hook(lambda *call: embedded.append(call[2]))
    model(tokens_BT)[:, last].square().sum().backward(inputs=_leaf(embedded))
    handle.remove()
    heard_T = embedded[0].grad.abs().amax(dim=(0, 2))
    deaf = (heard_T == 0).nonzero().flatten().tolist()
    require(not deaf, f"the last position does not hear positions {deaf}")


def _leaf(embedded: list[torch.Tensor]) -> list[torch.Tensor]:
    for tensor in embedded:
        tensor.retain_grad()
    return embedded
