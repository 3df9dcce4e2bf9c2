"""A step's mechanism changes the function."""

import hashlib

import torch

from gpt2.check.subject import SEED, Broken, Subject
from gpt2.model.initial import STD, draw


def fingerprint(subject: Subject) -> str:
    """The SHA-256 of the logits of the step's small model on fixed tokens.

    What starts at the same value everywhere is moved from it first: biases, and
    matrices that begin as nothing or as a mean.
    """
    model = subject.build().eval()
    constant = {id(law.parameter) for law in model.initial_laws()}
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or id(parameter) in constant:
            values = draw(SEED, "bias", name, tuple(parameter.shape))
            parameter.data.add_(STD * torch.from_numpy(values))
    with torch.no_grad():
        tokens_BT = subject.tokens()[:, :-1]
        logits_BTV = model(tokens_BT, None, subject.starts(tokens_BT))
    return hashlib.sha256(logits_BTV.numpy().tobytes()).hexdigest()


def require_distinct(
    subject: Subject, function: str, functions: dict[str, list[Subject]]
) -> None:
    """With the same seed, and so the same shared weights, no two steps of a study
    give the same logits, unless their models are configured alike and they differ
    in training. Settings are compared as read: "6e-4" and "0.0006" are the same.
    `functions` collects the steps seen so far by their fingerprint.
    """
    for earlier in functions.setdefault(function, []):
        if earlier.settings == subject.settings:
            raise Broken(f"has the same settings as {earlier.name}, read as values")
        if earlier.settings.model != subject.settings.model:
            raise Broken(
                f"computes the same logits as {earlier.name}: what its fragment sets "
                "does not reach the model"
            )
    functions[function].append(subject)
