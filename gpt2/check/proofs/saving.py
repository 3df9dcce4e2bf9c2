"""A checkpoint carries everything the next step depends on."""

import tempfile
from pathlib import Path

import torch

from gpt2.check.subject import SEED, Subject, require
from gpt2.distributed.ddp import DataParallel
from gpt2.model.gpt import GPT
from gpt2.pruning import Pruner
from gpt2.training import checkpoint

DROPOUT = 0.1


def save_and_resume(subject: Subject) -> None:
    """Two steps in one go equal one step, a checkpoint, and one step.

    With dropout, so that the random numbers go on too. A step that prunes does so
    in part before the checkpoint, and the rest after.
    """
    straight = subject.build(dropout=DROPOUT)
    optimizer = subject.optimizer(straight)
    pruner = subject.pruner(straight, optimizer)
    half = 0.0
    if pruner is not None:
        half = (pruner.settings.start + pruner.settings.end) / 2
    _step(subject, straight, optimizer, pruner, 0, half)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "checkpoint"
        progress = checkpoint.Progress(step=1)
        shared = DataParallel(straight)
        checkpoint.save(directory, "id", progress, shared, optimizer, pruner)
        before = _held(pruner)
        _step(subject, straight, optimizer, pruner, 1, 1.0)
        resumed = subject.build(seed=SEED + 1, dropout=DROPOUT)
        other = subject.optimizer(resumed)
        masks = subject.pruner(resumed, other)
        shared = DataParallel(resumed)
        progress, complaints = checkpoint.resume(directory, "id", shared, other, masks)
    require(not complaints, f"the checkpoint is unreadable: {complaints}")
    require(
        progress.step == 1, f"the checkpoint resumes at step {progress.step}, not 1"
    )
    if pruner is not None:
        _require_same(before, masks)
    _step(subject, resumed, other, masks, 1, 1.0)
    for (name, p), q in zip(straight.named_parameters(), resumed.parameters()):
        require(
            torch.equal(p, q), f"{name} differs after a checkpoint and one more step"
        )


def _held(pruner: Pruner | None) -> dict[str, dict[str, torch.Tensor]]:
    """A copy of what the pruner keeps."""
    kept = pruner.state() if pruner is not None else {}
    return {k: {n: v.clone() for n, v in each.items()} for k, each in kept.items()}


def _require_same(before: dict[str, dict[str, torch.Tensor]], resumed: Pruner) -> None:
    pruned = sum(int(mask.sum()) for mask in before["masks"].values())
    require(pruned > 0, "no weight is pruned in the middle of the schedule")
    for kind, values in before.items():
        for name, value in values.items():
            require(
                torch.equal(value, resumed.state()[kind][name]),
                f"the {kind} of {name} differ after a checkpoint",
            )
    require(pruned == resumed.pruned, "the sparsity differs after a checkpoint")


def _step(
    subject: Subject,
    model: GPT,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None,
    seed: int,
    spent: float,
) -> None:
    """One step as the trainer takes it; spent: of the budget, as pruning sees it."""
    optimizer.zero_grad()
    subject.loss(model, seed=seed).backward()
    if pruner is not None:
        pruner.before_step()
    optimizer.step()
    if pruner is not None:
        pruner.after_step(seed + 1, spent)
