"""A checkpoint carries everything the next step depends on."""

import tempfile
from pathlib import Path

import torch

from gpt2 import checkpoint
from gpt2.check.subject import SEED, Subject, require
from gpt2.model import GPT


def save_and_resume(subject: Subject) -> None:
    """Two steps in one go equal one step, a checkpoint, and one step."""
    straight = subject.build()
    optimizer = subject.optimizer(straight)
    _step(subject, straight, optimizer, 0)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "checkpoint"
        checkpoint.save(
            directory, "id", checkpoint.Progress(step=1), straight, optimizer
        )
        resumed = subject.build(seed=SEED + 1)
        other = subject.optimizer(resumed)
        progress, complaints = checkpoint.resume(directory, "id", resumed, other)
    require(not complaints, f"the checkpoint is unreadable: {complaints}")
    require(
        progress.step == 1, f"the checkpoint resumes at step {progress.step}, not 1"
    )
    _step(subject, straight, optimizer, 1)
    _step(subject, resumed, other, 1)
    for (name, p), q in zip(straight.named_parameters(), resumed.parameters()):
        require(
            torch.equal(p, q), f"{name} differs after a checkpoint and one more step"
        )


def _step(
    subject: Subject, model: GPT, optimizer: torch.optim.Optimizer, seed: int
) -> None:
    optimizer.zero_grad()
    subject.loss(model, seed=seed).backward()
    optimizer.step()
