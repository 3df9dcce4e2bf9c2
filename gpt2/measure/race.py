"""The training step of several models, timed side by side in one process.

Speed varies between calls with clocks and neighbours by more than what is
looked for, so every contender takes turns with the anchor, the first step of the
study, round after round (ABAB …), and the times of one round are compared. The
anchor stays; a contender is built, raced and let go, so that memory holds two.
"""

import gc
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count as counted
from pathlib import Path

import torch

from gpt2.distributed import build as distributed
from gpt2.model.costs import count
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import RunSettings
from gpt2.training import device
from gpt2.training.memory import memory_estimate
from gpt2.training.step import Step

# Steps before the first that is timed; the last one's loss is on record.
WARMUP = 24
# Steps over which the rate rises to its peak: the full rate at once throws some
# steps far off, and their losses would say nothing.
RISE = 96


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
        """What a record says of it besides times; tokens: of one step."""
        mfu = None
        if peak_flops and self.flops_per_token:
            seconds = statistics.median(self.seconds)
            mfu = tokens / seconds * self.flops_per_token / peak_flops
        return {
            "name": self.name,
            "tokens": tokens,
            "mfu": mfu,
            "peak_bytes": self.peak_bytes,
            "estimate_bytes": self.estimate_bytes,
            "flops_per_token": self.flops_per_token,
            "flops_per_token_causal": self.flops_per_token_causal,
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
        }


def rate(peak: float, done: int) -> float:
    """The learning rate after so many steps: linear up to the peak at RISE."""
    return peak * min(1.0, (done + 1) / RISE)


def ours(name: str, settings: RunSettings, micro: int, kind: str) -> Contender:
    """A configuration's training step as the trainer takes it, one micro-batch."""
    model = GPT(settings.model)
    initialise(model, 1, "")
    distribution = distributed.build(settings, model.to(kind).train())
    optimizer = distribution.optimizer(settings.optim)
    trained = Step(settings, distribution, optimizer, None, 1, kind)
    done = counted()

    def step(rows_BT: torch.Tensor) -> torch.Tensor:
        trained.set_rate(rate(settings.optim.lr, next(done)))
        loss, _ = trained.take([(rows_BT[:, :-1], rows_BT[:, 1:], None)])
        trained.refresh(masked=False)
        return loss

    counts = count(model)
    return Contender(
        name,
        step,
        counts.flops_per_token,
        counts.flops_per_token_causal,
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
            n_layer=shape.depth,
            n_head=shape.heads,
            n_embd=shape.embed,
            dropout=0.0,
            bias=shape.bias,
        )
    ).to(kind)
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), kind)
    forward = torch.compile(model)
    autocast, done = torch.autocast(kind, torch.bfloat16), counted()

    def step(rows_BT: torch.Tensor) -> torch.Tensor:
        lr = rate(6e-4, next(done))
        for group in optimizer.param_groups:
            group["lr"] = lr
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


@dataclass(frozen=True)
class Race:
    """How contenders are compared: tokens per batch, whatever the context; timed
    steps per round; nanogpt: its model.py, or None.
    """

    tokens: int = 65536
    rounds: int = 5
    timed: int = 10
    nanogpt: Path | None = None

    def group(self, context: int) -> str:
        """The name of the rows of one context."""
        return f"T={context} B={self.tokens // context}"


def compare(
    wanted: list[tuple[str, RunSettings]], race_: Race, done: set[tuple[str, str]]
) -> Iterator[dict]:
    """A record's row for each of these named settings, in order: all of one context
    and one device. The first is the anchor and is built even if its row is done.
    """
    first = wanted[0][1]
    context, kind = first.model.block_size, device.resolve(first.system.device)
    if race_.tokens % context:
        raise ValueError(f"{race_.tokens} tokens per batch in rows of {context}")
    batch, group = race_.tokens // context, race_.group(context)
    device.configure(first.system, kind)
    # All contenders are one piece of code to dynamo, which would stop compiling.
    torch._dynamo.config.recompile_limit = 256
    torch.manual_seed(1)
    shape = (batch, context + 1)
    rows_BT = torch.randint(0, first.model.vocab_size, shape, device=kind)
    builders = [(n, partial(ours, n, s, batch, kind)) for n, s in wanted]
    if race_.nanogpt:
        name = f"nanoGPT, bias={first.model.bias}"
        builders.append((name, partial(nanogpt, race_.nanogpt, first, kind)))
    left = [(name, build) for name, build in builders if (group, name) not in done]
    if not left:
        return
    anchor = prepare(builders[0][1], rows_BT, kind)
    peak_flops = device.describe(kind).peak_flops
    for name, build in left:
        own = name == anchor.name
        contender = anchor if own else prepare(build, rows_BT, kind)
        anchor.seconds.clear()
        pair = [anchor] if own else [anchor, contender]
        race(pair, rows_BT, kind, race_.rounds, race_.timed)
        share = None
        if contender.flops_per_token_causal:
            share = contender.flops_per_token_causal / anchor.flops_per_token_causal
        yield {
            "group": group,
            "anchor": anchor.name,
            "context": context,
            "of_flops": share,
            "ms_rounds": [round(s * 1e3, 5) for s in contender.seconds],
            "anchor_rounds": [round(s * 1e3, 5) for s in anchor.seconds],
            **contender.row(race_.tokens, peak_flops),
        }
        del contender, pair
        gc.collect()
        if kind == "cuda":
            torch.cuda.empty_cache()
