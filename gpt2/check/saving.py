"""A checkpoint carries everything the next step depends on."""

import tempfile
from pathlib import Path

import torch

from gpt2 import checkpoint
from gpt2.check.subject import SEED, Subject, require
from gpt2.model import GPT
from gpt2.pruning import Pruner

DROPOUT = 0.1


def save_and_resume(subject: Subject) -> None:
    """Two steps in one go equal one step, a checkpoint, and one step.

    With dropout, so that the random numbers go on too. A step that prunes does so
    before the checkpoint.
    """
    straight = subject.build(dropout=DROPOUT)
    optimizer = subject.optimizer(straight)
    pruner = subject.pruner(straight, optimizer)
    _step(subject, straight, optimizer, pruner, 0)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "checkpoint"
        progress = checkpoint.Progress(step=1)
        checkpoint.save(directory, "id", progress, straight, optimizer, pruner)
        _step(subject, straight, optimizer, pruner, 1)
        resumed = subject.build(seed=SEED + 1, dropout=DROPOUT)
        other = subject.optimizer(resumed)
        masks = subject.pruner(resumed, other)
        progress, complaints = checkpoint.resume(directory, "id", resumed, other, masks)
    require(not complaints, f"the checkpoint is unreadable: {complaints}")
    require(
        progress.step == 1, f"the checkpoint resumes at step {progress.step}, not 1"
    )
    if pruner is not None:
        _same_masks(pruner, masks)
    _step(subject, resumed, other, masks, 1)
    for (name, p), q in zip(straight.named_parameters(), resumed.parameters()):
        require(
            torch.equal(p, q), f"{name} differs after a checkpoint and one more step"
        )


def _same_masks(pruner: Pruner, resumed: Pruner) -> None:
    require(pruner.pruned > 0, "no weight is pruned at the end of the budget")
    for name, mask in pruner.masks.items():
        require(
            torch.equal(mask, resumed.masks[name]),
            f"the mask of {name} differs after a checkpoint",
        )


def _step(
    subject: Subject,
    model: GPT,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None,
    seed: int,
) -> None:
    """One step as the trainer takes it; all of the pruning budget is spent."""
    optimizer.zero_grad()
    subject.loss(model, seed=seed).backward()
    optimizer.step()
    if pruner is not None:
        pruner.after_step(seed + 1, 1.0)
