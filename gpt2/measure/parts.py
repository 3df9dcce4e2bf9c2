"""`make bench`, part by part: from options to rows of a record."""

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gpt2.measure.race import WARMUP, Race, compare
from gpt2.measure.record import Record
from gpt2.settings.run import RunSettings, run_settings
from gpt2.training import device
from kconf.bind import ranges
from kconf.overrides import Overrides
from kconf.strict import Tree
from kconf.study import list_steps, resolve_step
from kconf.syntax import ConfigError
from kernels.attention import bench as attention
from kernels.recurrence import bench as recurrence
from records import provenance
from records.layout import RecordError

REFUSED = (device.DeviceError, RecordError, ConfigError, ValueError)
"""What a person can cause and mend."""
Wanted = list[tuple[str, RunSettings]]


def machine_and_commit(root: Path) -> dict[str, Any]:
    """Where a record is made: the device, torch, Triton, the commit."""
    kind = device.resolve("auto", print)
    state = provenance.git_state(root)
    commit = state["commit"]
    if commit and state.get("dirty"):
        commit += " and changes"
    packages = provenance.package_versions()
    triton = packages.get("triton") or packages.get("pytorch-triton-rocm")
    versions = {"torch": torch.__version__, "triton": triton}
    return {"device": device.describe(kind).as_dict(), **versions, "commit": commit}


def require_device(root: Path, options: Namespace, context: int | None) -> None:
    """Raise DeviceError where the training step cannot be timed on this machine, before
    anything else has been.
    """
    kind = settings(root, options, context)[0][1].system.device
    try:
        device.resolve(kind)
    except device.DeviceError:
        raise device.DeviceError(
            f"PART=training takes steps on a GPU, and torch {torch.__version__} sees "
            "none (`make doctor`); ARGS='--set CONFIG_DEVICE_CPU=y' takes them on the "
            "CPU, PART=attention and PART=recurrence do without"
        ) from None


def opened(root: Path, options: Namespace) -> Record:
    """The record to go on with, or a new one. Raises RecordError."""
    where = machine_and_commit(root)
    if options.resume:
        return Record.resume(options.resume, where)
    return Record.begin(options.folder, where, time.strftime("%Y-%m-%d"))


def measured(
    root: Path,
    part: str,
    options: Namespace,
    contexts: Sequence[int | None],
    race: Race,
    record: Record,
    command: str,
) -> Iterator[dict[str, Any]]:
    """The rows of a part that the record does not have yet, each saved before it is
    yielded; the record says that the part is complete after the last one.
    """
    done = record.done(part)
    kind = record.content["device"]["kind"]
    if part == "attention":
        about = "bf16, causal, forward + backward of strided views, median ms · ratio"
        rows = by_group(attention, kind, done)
    elif part == "recurrence":
        about = "bf16, forward + backward, keys of length 1, median ms · ratio"
        rows = by_group(recurrence, kind, done)
    else:
        about = (
            f"{race.tokens:,} tokens per batch, medians of {race.rounds} rounds of "
            f"{race.timed} steps in turn with the anchor; losses of the first step and "
            f"of number {WARMUP}"
        )
        wanted = [settings(root, options, context) for context in contexts]
        rows = (row for each in wanted for row in compare(each, race, done))
    record.call(command, part, {"about": about})
    for row in rows:
        yield record.add(row)
    record.complete()


def by_group(
    bench: ModuleType, kind: str, done: set[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Rows of the groups of shapes of which not every shape is done. bench: the module
    that measures an operator.
    """
    there = {group for group, _ in done}
    for group in bench.GROUPS:
        if any(shape.name not in there for shape in group):
            for row in bench.measure(group, kind):
                if (row["group"], row["name"]) not in done:
                    yield row


def settings(root: Path, options: Namespace, context: int | None) -> Wanted:
    """The named settings of the steps that are asked for, the study's first step
    before all of them; at a context, None for the configured one.
    """
    tree, folder = Tree(root), root / "defconfigs"
    stages = folder / options.study, folder / "fragments" / f"{options.overlay}.config"

    def resolved(step, words: list[str]) -> RunSettings:
        pairs = dict(word.removeprefix("CONFIG_").split("=", 1) for word in words)
        if context is not None:
            pairs["GPT2_BLOCK_SIZE"] = str(context)
        overrides = Overrides(pairs, "--set")
        return run_settings(resolve_step(tree, stages, step, overrides).values)

    steps = list(list_steps(root, options.study))
    chosen = ranges("STEPS", options.steps)
    steps = steps[:1] + [s for s in steps[1:] if s.number in chosen]
    named = [(step.id, resolved(step, options.set)) for step in steps]
    for word in options.also:
        name = f"{steps[0].id} {word}"
        named.append((name, resolved(steps[0], [*options.set, word])))
    return named
