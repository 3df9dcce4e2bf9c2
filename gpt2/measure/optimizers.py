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

from gpt2 import optim, pruning
from gpt2.distributed.ddp import DataParallel
from gpt2.measure.timing import compared, milliseconds
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.optim.adamwspam import UNCLIPPED
from gpt2.pruning.pruner import Pruner
from gpt2.settings.pruning_names import CRITERIA, resolve
from gpt2.settings.run import OptimSettings, run_settings
from gpt2.training import device as machine
from gpt2.training import update

Values = Callable[..., Mapping[str, Any]]
"""Typed symbol values for some symbols that differ from the defaults."""

METHODS = ("magnitude", "movement", *(f"state:{name}" for name in CRITERIA))
UPDATES = 8
ROUNDS, CALLS = 9, 10


def measure(values: Values, kind: str) -> dict[str, Any]:
    """Every optimizer and pruning method on a device ("cpu", "cuda").

    Times in ms. step: the optimizer's step alone; tail: all that follows the last
    backward pass (gradients of pruned weights to zero, norm, clipping, step);
    relative and tail_relative: over those of torch's fused AdamW with
    clip_grad_norm_, in the same minute. update: one mask update with its zeros,
    the median of 8 that go to a half; amortised: the tail with half of the
    weights pruned and its share of an update, over that of torch's AdamW.
    """
    device = torch.device(machine.resolve(kind))
    settings = run_settings(values())
    model = GPT(settings.model)
    initialise(model, 1)
    model.to(device)
    frequency = run_settings(values(PRUNING_MAGNITUDE="y")).pruning.frequency
    baseline = _past_first_steps(model, run_settings(values(UPDATE_TORCH="y")).optim)
    rows = _steps(model, values, baseline, device)
    masks = _masks(model, values, baseline, device, frequency)
    return {
        "schema": 2,
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


def _steps(
    model: GPT, values: Values, baseline: torch.optim.Optimizer, device: torch.device
) -> list[dict[str, Any]]:
    rows = []
    for name in optim.kinds():
        symbols = {f"OPTIMIZER_{name.upper()}": "y"}
        plain = run_settings(values(**symbols, UPDATE_TORCH="y")).optim
        if optim.facts(plain).one_pass:
            fused = run_settings(values(**symbols, UPDATE_ONE_PASS="y")).optim
            rows.append(_row(f"{name}, one pass", model, fused, baseline, device))
        rows.append(_row(name, model, plain, baseline, device))
    return rows


def _past_first_steps(model: GPT, settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimizer past its first steps, at a rate that moves nothing far; its
    moments are those of gradients that change.
    """
    optimizer = optim.build(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = 1e-8
    for step in range(UNCLIPPED + 2):
        _draw_gradients(model, step)
        optimizer.step()
    return optimizer


def _draw_gradients(model: GPT, seed: int) -> None:
    for i, parameter in enumerate(model.parameters()):
        stream = torch.Generator(parameter.device).manual_seed(1000 * seed + i)
        parameter.grad = torch.randn(
            parameter.shape, generator=stream, device=parameter.device
        ).mul_(1e-3)


def _tail(
    model: GPT,
    settings: OptimSettings,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner | None = None,
) -> Callable[[], None]:
    """All that follows a backward pass, on the gradients that are there now."""
    gradients = _gradients(model)
    whole = update.build(settings, optimizer, DataParallel(model), pruner, 1)

    def tail() -> None:
        for parameter, grad in gradients:
            parameter.grad = grad
        whole.step()

    return tail


def _row(
    name: str,
    model: GPT,
    settings: OptimSettings,
    baseline: torch.optim.Optimizer,
    device: torch.device,
) -> dict[str, Any]:
    optimizer = _past_first_steps(model, settings)
    gradients = _gradients(model)
    step, base = compared(optimizer.step, baseline.step, device, ROUNDS, CALLS)
    by_torch = replace(settings, kind="adamw", update="torch")
    tails = (_tail(model, settings, optimizer), _tail(model, by_torch, baseline))
    tail, tail_base = compared(*tails, device, ROUNDS, CALLS)
    for parameter, grad in gradients:
        parameter.grad = grad
    state = sum(
        value.numel() * value.element_size()
        for values in optimizer.state.values()
        for value in values.values()
        if torch.is_tensor(value)
    )
    parameters = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
    return {
        "name": name,
        "step": step,
        "baseline": base,
        "relative": step / base,
        "tail": tail,
        "tail_baseline": tail_base,
        "tail_relative": tail / tail_base,
        "state_bytes_per_parameter": state / parameters,
    }


def _masks(
    model: GPT,
    values: Values,
    baseline: torch.optim.Optimizer,
    device: torch.device,
    frequency: int,
) -> list[dict[str, Any]]:
    settings = run_settings(values(UPDATE_ONE_PASS="y")).optim
    step = milliseconds(baseline.step, CALLS, device)
    rows = []
    for name in METHODS:
        for pattern in ("UNSTRUCTURED", "2_4"):
            if pattern == "2_4" and name == "state:layer_adaptive":
                continue
            symbols = {s: "y" for s in (*resolve(name).symbols, f"PATTERN_{pattern}")}
            sparse = run_settings(values(**symbols, UPDATE_ONE_PASS="y"))
            optimizer = _past_first_steps(
                model, settings
            )  # moments no mask has touched
            _updates(model, optimizer, sparse, device)  # compiles what it needs
            updates, pruner = _updates(model, optimizer, sparse, device)
            one, gradients = statistics.median(updates), _gradients(model)
            by_torch = replace(settings, update="torch")
            tails = (
                _tail(model, settings, optimizer, pruner),
                _tail(model, by_torch, baseline),
            )
            tail, base = compared(*tails, device, ROUNDS, CALLS)
            for parameter, grad in gradients:
                parameter.grad = grad
            rows.append(
                {
                    "name": name,
                    "pattern": sparse.pruning.pattern,
                    "covered": pruner.covered,
                    "update": one,
                    "update_in_steps": one / step,
                    "tail": tail,
                    "tail_baseline": base,
                    "amortised": (tail + one / frequency) / base,
                }
            )
    return rows


def _gradients(model: GPT) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    return [(p, p.grad) for p in model.parameters()]


def _updates(
    model: GPT,
    optimizer: torch.optim.Optimizer,
    settings: Any,
    device: torch.device,
) -> tuple[list[float], Pruner]:
    """Times of updates to a half in equal parts; weights and state come back."""
    pruner = pruning.build(model, optimizer, settings.pruning, settings.optim)
    copies = [
        (tensor, tensor.clone())
        for weight in pruner.weights.values()
        for tensor in (weight.data, weight.grad, *optimizer.state[weight].values())
        if torch.is_tensor(tensor) and tensor.shape == weight.shape
    ]
    pruner.before_step()

    def update() -> None:
        pruner.update(pruner.covered // (2 * UPDATES))

    with torch.no_grad():
        times = [milliseconds(update, 1, device) for _ in range(UPDATES)]
        for tensor, copy in copies:
            tensor.copy_(copy)
    return times, pruner


def table(record: dict[str, Any]) -> str:
    """The two tables as Markdown."""
    lines = [
        "| optimizer | ms/step | x fused AdamW | ms/tail | x torch's tail "
        "| state, bytes/parameter |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in record["optimizers"]:
        lines.append(
            f"| {row['name']} | {row['step']:.3f} | {row['relative']:.2f} | "
            f"{row['tail']:.3f} | {row['tail_relative']:.2f} | "
            f"{row['state_bytes_per_parameter']:.1f} |"
        )
    lines.append("")
    lines.append("| pruning | pattern | ms/update | in steps | ms/tail | amortised |")
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in record["pruning"]:
        lines.append(
            f"| {row['name']} | {row['pattern']} | {row['update']:.3f} | "
            f"{row['update_in_steps']:.2f} | {row['tail']:.3f} | "
            f"{row['amortised']:.3f} |"
        )
    return "\n".join(lines)
