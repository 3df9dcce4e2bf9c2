"""A forward pass leaves nothing behind."""

import gc

import torch

from gpt2.check.subject import Subject, require


def no_state(subject: Subject) -> None:
    """The same input gives bit-identical logits after inputs of other batch
    sizes, and no tensor outlives a forward pass, in a module, a global or
    anywhere else.
    """
    model = subject.build()
    tokens_BT = subject.tokens()[:, :-1]
    others = [subject.tokens(batch, seed=batch)[:, :-1] for batch in (1, 5, 3)]
    # From here on gc.get_objects() knows what is made below, and is quick.
    gc.collect()
    gc.freeze()
    for training, gradients in ((True, True), (True, False), (False, False)):
        model.train(training)
        with torch.set_grad_enabled(gradients):
            first = model(tokens_BT).detach()
            for other_BT in others:
                logits_BTV = model(other_BT)
                if gradients:
                    logits_BTV.square().mean().backward()
                del logits_BTV
            same = torch.equal(first, model(tokens_BT))
        model.zero_grad(set_to_none=True)
        require(same, "the same input gives other logits after other inputs")
        del first
        gc.collect()
        kept = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
        require(
            not kept,
            f"{len(kept)} tensors outlive the forward pass, the first of shape "
            f"{tuple(kept[0].shape) if kept else ()}",
        )
