"""A forward pass leaves nothing behind."""

import gc
import sys

import torch

from gpt2.check.subject import Subject, require


def no_state(subject: Subject) -> None:
    """The same input gives bit-identical logits after other inputs, and no
    tensor outlives a forward pass, in a module, a global or anywhere else.
    """
    model = subject.build()
    tokens_BT = subject.tokens()[:, :-1]
    for training in (True, False):
        model.train(training)
        with torch.no_grad():
            alive = _tensors()
            first = model(tokens_BT)
            for batch in (1, 5, 3):
                model(subject.tokens(batch, seed=batch)[:, :-1])
            again = model(tokens_BT)
        require(
            torch.equal(first, again),
            "the same input gives other logits after other inputs: state is kept",
        )
        del first, again
        kept = [t for key, t in _tensors().items() if key not in alive]
        require(
            not kept,
            f"{len(kept)} tensors outlive the forward pass, the first of shape "
            f"{tuple(kept[0].shape) if kept else ()}: {_holder(kept)}",
        )


def _tensors() -> dict[int, torch.Tensor]:
    gc.collect()
    return {id(o): o for o in gc.get_objects() if type(o) is torch.Tensor}


def _holder(kept: list[torch.Tensor]) -> str:
    """Where the first kept tensor is referenced from, by type."""
    if not kept:
        return ""
    frame = sys._getframe()
    names = {
        type(owner).__name__
        for owner in gc.get_referrers(kept[0])
        if owner is not kept and owner is not frame
    }
    return f"held by {', '.join(sorted(names))}"
