"""What a step of every optimizer costs, and every mask update.

The baseline is torch's fused AdamW over the same parameters, measured in turns.
Gradients are random and stay: only optimizer and masks are timed.
"""

import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from gpt2 import device as machine
from gpt2 import optim, pruning
from gpt2.init import initialise
from gpt2.measure.timing import compared, milliseconds
from gpt2.model import GPT
from gpt2.optim.spam import UNCLIPPED
from gpt2.pruning_names import CRITERIA, resolve
from gpt2.pruning.pruner import Pruner
from gpt2.settings import OptimSettings, run_settings
from kernels.spam import reference

Values = Callable[..., Mapping[str, Any]]
"""Typed symbol values for some symbols that differ from the defaults."""

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "muon", "adamwspam")
METHODS = ("magnitude", "movement", *(f"state:{name}" for name in CRITERIA))
UPDATES = 8
ROUNDS, CALLS = 9, 10


def measure(values: Values, kind: str) -> dict[str, Any]:
    """Every optimizer and pruning method on a device ("cpu", "cuda").

    Times in ms. step: one optimizer step; relative: over the baseline's in the
    same minute. update: one mask update with its zeros, the median of 8 that go
    to a half; before_step: what pruning adds to every step; amortised: the step
    with pruning at the configured frequency over the baseline.
    """
    device = torch.device(machine.resolve(kind))
    settings = run_settings(values())
    model = GPT(settings.model)
    initialise(model, 1)
    model.to(device)
    for i, parameter in enumerate(model.parameters()):
        stream = torch.Generator(device).manual_seed(i)
        parameter.grad = torch.randn(
            parameter.shape, generator=stream, device=device
        ).mul_(1e-3)
    frequency = run_settings(values(PRUNING_MAGNITUDE="y")).pruning.frequency
    rows = _steps(model, values, device)
    step = next(row["step"] for row in rows if row["name"] == "adamw")
    masks = _masks(model, values, device, step, frequency)
    return {
        "schema": 1,
        "kind": "optimizers",
        "device": asdict(machine.describe(device.type)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "frequency": frequency,
        "optimizers": rows,
        "pruning": masks,
    }


def _steps(model: GPT, values: Values, device: torch.device) -> list[dict[str, Any]]:
    plain = run_settings(values()).optim
    baseline = optim.build(model, replace(plain, kind="adamw"))
    rows = []
    for name in OPTIMIZERS:
        settings = run_settings(values(**{f"OPTIMIZER_{name.upper()}": "y"})).optim
        rows.append(_row(name, _quiet(model, settings), baseline, device))
    settings = run_settings(values(OPTIMIZER_ADAMWSPAM="y")).optim
    slow = _quiet(model, settings)
    slow.backend = reference
    rows.append(_row("adamwspam, foreach", slow, baseline, device))
    return rows


def _quiet(model: GPT, settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimizer past its first steps, at a rate that moves nothing far."""
    optimizer = optim.build(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = 1e-8
    for _ in range(UNCLIPPED + 2):
        optimizer.step()
    return optimizer


def _row(
    name: str,
    optimizer: torch.optim.Optimizer,
    baseline: torch.optim.Optimizer,
    device: torch.device,
) -> dict[str, Any]:
    mine, theirs = compared(optimizer.step, baseline.step, device, ROUNDS, CALLS)
    state = sum(
        value.numel() * value.element_size()
        for values in optimizer.state.values()
        for value in values.values()
        if torch.is_tensor(value)
    )
    parameters = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
    return {
        "name": name,
        "step": mine,
        "baseline": theirs,
        "relative": mine / theirs,
        "state_bytes_per_parameter": state / parameters,
    }


def _masks(
    model: GPT, values: Values, device: torch.device, step: float, frequency: int
) -> list[dict[str, Any]]:
    optimizer = _quiet(model, run_settings(values()).optim)
    rows = []
    for name in METHODS:
        for pattern in ("UNSTRUCTURED", "2_4"):
            if pattern == "2_4" and name == "state:layer_adaptive":
                continue
            symbols = {s: "y" for s in (*resolve(name).symbols, f"PATTERN_{pattern}")}
            found = run_settings(values(**symbols))
            _updates(model, optimizer, found, device)  # compiles what it needs
            updates, pruner = _updates(model, optimizer, found, device)
            before = milliseconds(pruner.before_step, 20, device)
            rows.append(
                {
                    "name": name,
                    "pattern": found.pruning.pattern,
                    "covered": pruner.covered,
                    "update": statistics.median(updates),
                    "before_step": before,
                    "update_in_steps": statistics.median(updates) / step,
                    "amortised": 1
                    + (before + statistics.median(updates) / frequency) / step,
                }
            )
    return rows


def _updates(
    model: GPT,
    optimizer: torch.optim.Optimizer,
    settings: Any,
    device: torch.device,
) -> tuple[list[float], Pruner]:
    """Times of updates to a half in equal parts; weights and state come back."""
    pruner = pruning.build(model, optimizer, settings.pruning, settings.optim)
    kept = [
        (tensor, tensor.clone())
        for weight in pruner.weights.values()
        for tensor in (weight.data, weight.grad, *optimizer.state[weight].values())
        if torch.is_tensor(tensor) and tensor.shape == weight.shape
    ]
    pruner.before_step()

    def update() -> None:
        pruner.update(pruner.covered // (2 * UPDATES))
        pruner.apply()

    with torch.no_grad():
        times = [milliseconds(update, 1, device) for _ in range(UPDATES)]
        for tensor, copy in kept:
            tensor.copy_(copy)
    return times, pruner


def table(found: dict[str, Any]) -> str:
    """The two tables as Markdown."""
    lines = ["| optimizer | ms/step | x fused AdamW | state, bytes/parameter |"]
    lines.append("|---|---:|---:|---:|")
    for row in found["optimizers"]:
        lines.append(
            f"| {row['name']} | {row['step']:.3f} | {row['relative']:.2f} | "
            f"{row['state_bytes_per_parameter']:.1f} |"
        )
    lines.append("")
    lines.append("| pruning | pattern | ms/update | in steps | ms/step | amortised |")
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in found["pruning"]:
        lines.append(
            f"| {row['name']} | {row['pattern']} | {row['update']:.3f} | "
            f"{row['update_in_steps']:.2f} | {row['before_step']:.3f} | "
            f"{row['amortised']:.3f} |"
        )
    return "\n".join(lines)
