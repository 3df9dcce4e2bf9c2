"""Resume checkpoints and final weights.

A checkpoint holds everything the next step depends on: parameters, optimizer
state, pruning masks and scores, the random number generators, the position in
the data (the step: the batches are a function of it) and the clocks. The last
two are kept; a file is written beside its place and renamed, so that a crash
leaves the older ones.
"""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpt2.distributed.distribution import Distribution
from gpt2.pruning import Pruner
from records import atomic, checkpoints

SCHEMA = 1
KEEP = 2

# What a damaged file raises, from zipfile and from torch.
UNREADABLE = (*checkpoints.DAMAGED, pickle.UnpicklingError)


class CheckpointError(RuntimeError):
    """A checkpoint that belongs to another cell or another schema."""


@dataclass
class Progress:
    """How far a run is. Times in seconds, summed over attempts."""

    step: int = 0
    train_time: float = 0.0
    timed_steps: int = 0
    eval_time: float = 0.0


def save(
    directory: Path,
    identity: str,
    progress: Progress,
    distribution: Distribution,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None,
) -> Path:
    """Write the checkpoint of `progress.step`, then drop all but the last two.

    Every rank calls this and rank 0 writes; the others return when it has.
    """
    path = directory / f"step-{progress.step:09d}.pt"
    ranks = distribution.ranks
    generators = ranks.gather(_generators())
    weights_and_optimizer = distribution.state(optimizer)
    if not ranks.main:
        ranks.barrier()
        return path
    directory.mkdir(exist_ok=True)
    state = {
        "schema": SCHEMA,
        "identity": identity,
        "progress": asdict(progress),
        **weights_and_optimizer,
        "pruning": pruner.state() if pruner else {},
        "rng": generators,
    }
    write(path, state)
    present = checkpoints.existing(directory)
    # Those of later steps are what `resume` could not read.
    later = [p for p in present if p > path]
    for old in later + [p for p in present if p <= path][:-KEEP]:
        old.unlink()
    ranks.barrier()
    return path


def write(path: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all. Raises OSError where the disk refuses: torch's
    writer says that a position is unexpected.
    """
    with atomic.replacing(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def newest(directory: Path, step: int) -> Path | None:
    """The newest checkpoint of at most `step` completed updates, if there is one."""
    present = checkpoints.existing(directory)
    return max((p for p in present if checkpoints.step_of(p) <= step), default=None)


def _generators() -> dict[str, torch.Tensor]:
    """The state of this rank's random number generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def resume(
    directory: Path,
    identity: str,
    distribution: Distribution,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None,
) -> tuple[Progress, list[str]]:
    """Load the newest readable checkpoint into model, optimizer and pruner.

    Returns the progress (step 0 when there is none) and a line for every file
    that could not be read. Raises CheckpointError for a checkpoint of another
    cell, and when not all ranks find the same one.
    """
    progress, complaints = _load_newest(
        directory, identity, distribution, optimizer, pruner
    )
    steps = distribution.ranks.gather(progress.step)
    if set(steps) != {progress.step}:
        raise CheckpointError(
            f"{directory}: the ranks read checkpoints of steps {steps}: do they see "
            "the same directory?"
        )
    return progress, complaints


def _load_newest(
    directory: Path,
    identity: str,
    distribution: Distribution,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None,
) -> tuple[Progress, list[str]]:
    """`resume` of one rank."""
    complaints = []
    for path in reversed(checkpoints.existing(directory)):
        try:
            state = _load(path)
        except UNREADABLE as error:
            complaints.append(f"{path.name} cannot be read, left out: {error}")
            continue
        _require(path, state, identity)
        distribution.load(state, optimizer)
        if pruner is not None:
            pruner.load(state["pruning"])
        generators = state["rng"][distribution.ranks.rank]
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"])
        return Progress(**state["progress"]), complaints
    return Progress(), complaints


def _load(path: Path) -> dict[str, Any]:
    """The file's content, if it is the one that was written."""
    checkpoints.require_intact(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _require(path: Path, state: dict[str, Any], identity: str) -> None:
    for key, wanted in (("schema", SCHEMA), ("identity", identity)):
        if state[key] != wanted:
            raise CheckpointError(
                f"{path}: {key} {state[key]!r} where {wanted!r} is expected; "
                "move the file away to start over"
            )


def save_weights(directory: Path, model: nn.Module, meta: dict[str, Any]) -> Path:
    """model.pt: the fp32 state dict and a description of the model."""
    directory.mkdir(exist_ok=True)
    path = directory / "model.pt"
    write(path, {"schema": SCHEMA, "meta": meta, "model": model.state_dict()})
    return path


def load_weights(directory: Path, model: nn.Module) -> None:
    """Fill `model` from the model.pt that `save_weights` left.

    Raises FileNotFoundError, and CheckpointError for a file that cannot be read,
    has another schema, or holds another model.
    """
    path = directory / "model.pt"
    try:
        state = _load(path)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if state["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: schema {state['schema']!r}, this code reads {SCHEMA}: use the "
            "version of the code that wrote it (run.json names the commit)"
        )
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds another model than this code builds from the run's "
            f"config.py (run.json names the commit that trained it): {error}"
        ) from error


def remove_half_written(directory: Path) -> None:
    """Remove what a killed process left half-written; only under the lease."""
    for half in directory.glob(".*.pt.*.tmp"):
        half.unlink()
