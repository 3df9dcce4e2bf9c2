"""The training step of several models, timed side by side in one process.

Speed varies between calls with clocks and neighbours by more than what is
looked for, so every contender runs a few steps in turn, round after round
(ABAB …), and medians over the rounds are compared.
"""

import importlib.util
import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from gpt2 import device, optim, precision, update
from gpt2.accounting import count, memory_estimate
from gpt2.init import initialise
from gpt2.model import GPT
from gpt2.settings import RunSettings
from gpt2.trainer import AUTOCAST

WARMUP = 8


@dataclass
class Contender:
    """One model with its optimizer, ready to step.

    step: one optimizer step on the given tokens; the loss. flops_per_token: None
    for a peer that is not counted. seconds: of one step, one value per round.
    """

    name: str
    step: Callable[[torch.Tensor], torch.Tensor]
    flops_per_token: int | None = None
    flops_per_token_causal: int | None = None
    estimate_bytes: int | None = None
    peak_bytes: int | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    seconds: list[float] = field(default_factory=list)

    def row(self, tokens: int, peak_flops: float | None) -> dict:
        """Medians and rates for a record; tokens: of one step."""
        seconds = statistics.median(self.seconds)
        rate = tokens / seconds
        mfu = None
        if peak_flops and self.flops_per_token:
            mfu = rate * self.flops_per_token / peak_flops
        return {
            "name": self.name,
            "ms": seconds * 1e3,
            "ms_rounds": [s * 1e3 for s in self.seconds],
            "tokens_per_s": rate,
            "mfu": mfu,
            "peak_bytes": self.peak_bytes,
            "estimate_bytes": self.estimate_bytes,
            "flops_per_token": self.flops_per_token,
            "flops_per_token_causal": self.flops_per_token_causal,
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
        }


def ours(name: str, settings: RunSettings, micro: int, kind: str) -> Contender:
    """A configuration's training step as the trainer takes it, one micro-batch."""
    model = GPT(settings.model)
    initialise(model, 1, "")
    model.to(kind).train()
    optimizer = optim.build(model, settings.optim)
    weights = precision.build(model, settings.system.param_dtype)
    tail = update.build(settings.optim, optimizer, weights, None, 1)
    forward = weights.model
    if settings.system.compile:
        forward = torch.compile(forward, dynamic=False)
    dtype = settings.system.dtype
    autocast = torch.autocast(kind, AUTOCAST[dtype], enabled=dtype != "fp32")

    def step(rows_BT: torch.Tensor) -> torch.Tensor:
        with autocast:
            loss = forward(rows_BT[:, :-1], rows_BT[:, 1:])
        loss.backward()
        tail.collect()
        tail.step()
        tail.refresh(masked=False)
        return loss.detach()

    facts = count(model)
    return Contender(
        name,
        step,
        facts.flops_per_token,
        facts.flops_per_token_causal,
        memory_estimate(settings, micro),
    )


def nanogpt(path: Path, settings: RunSettings, kind: str) -> Contender:
    """nanoGPT's own model and optimizer, from its model.py, at our shape: as its
    train.py takes a step (bf16 autocast, compiled, clipped at 1).
    """
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shape = settings.model
    model = module.GPT(
        module.GPTConfig(
            block_size=shape.block_size,
            vocab_size=shape.vocab_rows,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_embd=shape.embed,
            dropout=0.0,
            bias=shape.bias,
        )
    ).to(kind)
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), kind)
    forward = torch.compile(model)
    autocast = torch.autocast(kind, torch.bfloat16)

    def step(rows_BT: torch.Tensor) -> torch.Tensor:
        with autocast:
            _, loss = forward(rows_BT[:, :-1].contiguous(), rows_BT[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return Contender(f"nanoGPT, bias={shape.bias}", step)


def prepare(
    build: Callable[[], Contender], rows_BT: torch.Tensor, kind: str
) -> Contender:
    """Build a contender and warm it up; the memory it took at its peak."""
    before = 0
    if kind == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    contender = build()
    losses = [contender.step(rows_BT) for _ in range(WARMUP)]
    device.synchronize(kind)
    contender.first_loss, contender.last_loss = losses[0].item(), losses[-1].item()
    if kind == "cuda":
        contender.peak_bytes = torch.cuda.max_memory_allocated() - before
    return contender


def race(
    contenders: list[Contender],
    rows_BT: torch.Tensor,
    kind: str,
    rounds: int,
    steps: int,
) -> None:
    """`rounds` times every contender in turn takes `steps` timed steps."""
    for _ in range(rounds):
        for contender in contenders:
            contender.step(rows_BT)
            device.synchronize(kind)
            began = time.perf_counter()
            for _ in range(steps):
                contender.step(rows_BT)
            device.synchronize(kind)
            contender.seconds.append((time.perf_counter() - began) / steps)


def compare(
    wanted: list[tuple[str, RunSettings]], options: Namespace, command: str
) -> dict:
    """What the training steps of these named settings cost, as a record.

    options: batch (sequences), rounds, timed (steps per round), nanogpt (its
    model.py, or None). Shape and device are those of the first settings.
    """
    first = wanted[0][1]
    kind = device.resolve(first.system.device)
    device.configure(first.system, kind)
    # All contenders are one piece of code to dynamo, which would stop compiling.
    torch._dynamo.config.recompile_limit = 8 * len(wanted)
    torch.manual_seed(1)
    shape = (options.batch, first.model.block_size + 1)
    rows_BT = torch.randint(0, first.model.vocab_size, shape, device=kind)
    builders = [partial(ours, n, s, options.batch, kind) for n, s in wanted]
    if options.nanogpt:
        builders.append(partial(nanogpt, options.nanogpt, first, kind))
    contenders = [prepare(build, rows_BT, kind) for build in builders]
    race(contenders, rows_BT, kind, options.rounds, options.timed)
    return record(contenders, rows_BT, device.describe(kind), command)


def record(
    contenders: list[Contender],
    rows_BT: torch.Tensor,
    info: device.DeviceInfo,
    command: str,
) -> dict:
    """What was measured, where, and by which command."""
    batch, context = rows_BT.shape[0], rows_BT.shape[1] - 1
    rows = [c.row(batch * context, info.peak_flops) for c in contenders]
    return {
        "schema": 1,
        "command": command,
        "device": info.as_dict(),
        "torch": torch.__version__,
        "batch": batch,
        "context": context,
        "rows": rows,
    }


def markdown(record: dict) -> str:
    """The record as a table; ratios are to the first row. `of its FLOPs`: the
    step's time over the first one's, divided by the ratio of their FLOPs with
    attention counted causally.
    """
    first = record["rows"][0]
    lines = [
        f"# Training step, {record['device']['name']}",
        "",
        f"`{record['command']}`: batch {record['batch']} x {record['context']} tokens, "
        f"torch {record['torch']}, medians of {len(first['ms_rounds'])} rounds in "
        "turn.",
        "",
        "| | ms | tokens/s | MFU | x first | of its FLOPs | peak GiB | first loss "
        "| last |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        ratio = row["ms"] / first["ms"]
        of_flops = "-"
        if row["flops_per_token_causal"]:
            share = row["flops_per_token_causal"] / first["flops_per_token_causal"]
            of_flops = f"{ratio / share:.3f}"
        mfu = f"{row['mfu']:.1%}" if row["mfu"] else "-"
        peak = f"{row['peak_bytes'] / 2**30:.2f}" if row["peak_bytes"] else "-"
        lines.append(
            f"| {row['name']} | {row['ms']:.2f} | {row['tokens_per_s']:,.0f} | {mfu} "
            f"| {ratio:.3f} | {of_flops} | {peak} | {row['first_loss']:.4f} "
            f"| {row['last_loss']:.4f} |"
        )
    return "\n".join(lines) + "\n"
