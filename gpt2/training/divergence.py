"""The first step whose loss or gradient norm is not finite: found, and written down."""

import math
import os
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2.data.loading.corpus import StepBatches
from gpt2.training.checkpoint import write
from records import atomic

DELAY = 8
"""Steps after which a loss on the GPU is read, if it has not arrived before."""

Generators = dict[str, torch.Tensor]


class Diverged(RuntimeError):
    """A loss, a gradient norm or a weight that is not finite.

    `step` is the update it belongs to, `generators` the states of the random
    number generators before it, where they are known.
    """

    def __init__(self, why: str, step: int, generators: Generators | None = None):
        super().__init__(why)
        self.step, self.generators = step, generators


def generators(kind: str) -> Generators:
    """The states of the generators that a step may draw from."""
    states = {"rng": torch.get_rng_state()}
    if kind == "cuda":
        states["rng_cuda"] = torch.cuda.get_rng_state()
    return states


@dataclass(frozen=True)
class _PendingStep:
    """A step whose numbers are on their way to the host."""

    step: int
    numbers: torch.Tensor
    arrived: torch.cuda.Event
    generators: Generators


class DivergenceWatch:
    """Reads the loss and the gradient norm of every step.

    On the CPU at once. On a GPU two numbers per step are copied to pinned memory
    behind the step's work, and read when they have arrived, at the latest
    DELAY steps later: the loop never waits for a step it has just queued, and the
    step that is named is the right one. Where the process is not alone with its
    cell, always DELAY steps later: the ranks find the same, so they end at the same
    step. `loss` is the newest one that is known.
    """

    def __init__(self, kind: str, alone: bool = True):
        self.kind, self.alone, self.loss = kind, alone, None
        self._pending: deque[_PendingStep] = deque()
        if kind == "cuda":
            self._ring = torch.empty(DELAY + 1, 2, pin_memory=True)

    def watch(
        self, step: int, loss: torch.Tensor, norm: torch.Tensor, states: Generators
    ) -> None:
        """Add a step; raises Diverged for this one (on the CPU) or for one of the
        DELAY steps before it.
        """
        if self.kind != "cuda":
            self._require(step, loss.item(), norm.item(), states)
            return
        numbers = self._ring[step % (DELAY + 1)]
        numbers.copy_(torch.stack([loss.float(), norm.float()]), non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending.append(_PendingStep(step, numbers, arrived, states))
        while len(self._pending) > DELAY or self._has_arrived():
            self._check_oldest()

    def _has_arrived(self) -> bool:
        """Whether a process alone with its cell can read the oldest step at once."""
        return bool(self.alone and self._pending and self._pending[0].arrived.query())

    def check_all(self) -> None:
        """Read every step so far; raises Diverged."""
        while self._pending:
            self._check_oldest()

    def _check_oldest(self) -> None:
        oldest = self._pending.popleft()
        oldest.arrived.synchronize()
        loss, norm = oldest.numbers.tolist()
        self._require(oldest.step, loss, norm, oldest.generators)

    def _require(self, step: int, loss: float, norm: float, states: Generators) -> None:
        for name, value in (("training loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                raise Diverged(f"{name} {value} at step {step}", step, states)
        self.loss = loss


def write_diverged(
    folder: Path, error: Diverged, batches: StepBatches, checkpoint: Path | None
) -> None:
    """Write diverged/: what it takes to repeat the step.

    batch-step-N.pt holds the step, its micro-batches, and the generators before it
    (left out where they are not known); beside it lies the newest checkpoint
    before the step under its own name, the same file as in checkpoint/ where the
    file system has links. report.json names them. Without a checkpoint the run
    begins from its seed.
    """
    folder.mkdir(exist_ok=True)
    state: dict[str, Any] = {"step": error.step, **(error.generators or {})}
    state["batches"] = [
        tuple(None if x is None else x.cpu() for x in micro) for micro in batches
    ]
    name = f"step-{error.step:09d}.pt"
    write(folder / f"batch-{name}", state)
    if checkpoint is not None:
        copy = folder / checkpoint.name
        copy.unlink(missing_ok=True)
        try:
            os.link(checkpoint, copy)
        except OSError:  # a file system without links
            shutil.copyfile(checkpoint, copy)
    atomic.write_json(
        folder / "report.json",
        {
            "step": error.step,
            "error": str(error),
            "batch": f"batch-{name}",
            "checkpoint": checkpoint.name if checkpoint else None,
        },
    )
