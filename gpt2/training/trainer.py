"""The training loop of one run.

The loop owns no policy: which batch a step sees and which rate it uses are
functions of the settings and of the step, so that a run resumed from a
checkpoint continues the same curve, bit for bit on a CPU with the same number
of threads.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2 import optim
from gpt2.data.loading.batch import Batch
from gpt2.data.loading.corpus import StepBatches
from gpt2.data.loading.evaluation_text import EvaluationText, Units
from gpt2.distributed.distribution import Distribution
from gpt2.distributed.ranks import Ranks
from gpt2.model.costs import Facts
from gpt2.model.gpt import GPT
from gpt2.model.statistics import attention_stats
from gpt2.pruning import Pruner
from gpt2.settings.run import RunSettings
from gpt2.training import checkpoint, device
from gpt2.training.checkpoint import Progress
from gpt2.training.clock import Clock
from gpt2.training.divergence import Diverged, DivergenceWatch, generators
from gpt2.training.step import Step
from gpt2.training.unit_losses import UnitLosses
from gpt2.training.validation import Evaluation, evaluate
from records.progress_line import Steps


class Stopped(Exception):
    """The run was asked to stop and has written its checkpoint."""


@dataclass
class Run:
    """What the loop works on; gpt2/training/cell.py builds it.

    step_batches(first, last) yields the rank's batches of those steps; record writes a
    metrics row; beat(step, phase, loss) says that the loop moves; stop_requested,
    which every rank asks after every step, says the same to all of them. separator:
    the token that opens a document, None where documents see each other.
    """

    settings: RunSettings
    distribution: Distribution
    optimizer: torch.optim.Optimizer
    pruner: Pruner | None
    batch: Batch
    counts: Facts
    info: device.DeviceInfo
    step_batches: Callable[[int, int], Iterator[StepBatches]]
    eval_text: EvaluationText
    last_text: EvaluationText
    separator: int | None
    checkpoints: Path
    identity: str
    record: Callable[[dict[str, Any]], None] = print
    beat: Callable[..., None] = lambda step, phase, loss=None: None
    stop_requested: Callable[[], bool] = lambda: False
    began: float = field(default_factory=time.monotonic)

    @property
    def ranks(self) -> Ranks:
        """Who this process is among those of the cell."""
        return self.distribution.ranks


class Trainer:
    """Takes a Run from its progress to the end of its budget."""

    def __init__(self, run: Run, progress: Progress):
        self.run, self.progress = run, progress
        self.kind = run.info.kind
        self.step = Step(
            run.settings,
            run.distribution,
            run.optimizer,
            run.pruner,
            run.batch.accumulation * run.batch.ranks,
            self.kind,
        )
        self.clock = Clock(
            progress.train_time,
            lambda: device.synchronize(self.kind),
            run.ranks.broadcast,
        )
        self.total = run.settings.train.max_iters
        self.tokens_per_step = run.batch.effective * run.settings.model.block_size
        self.display = Steps(self.total, progress.step, quiet=not run.ranks.main)
        self.warm_until = progress.step + run.settings.train.timing_warmup
        self.last_eval: dict[str, Any] | None = None
        self.last_losses: tuple[Units, np.ndarray] | None = None
        self.time_to_first_step: float | None = None
        self._last_log = (progress.timed_steps, progress.train_time)
        self._loss = self._norm = torch.zeros(())
        self.divergence = DivergenceWatch(self.kind, run.ranks.alone)

    def train(self) -> str:
        """Run to the end; returns what ended it: "tokens" or "time".

        Raises Diverged, and Stopped after a checkpoint when asked to stop.
        """
        train, progress = self.run.settings.train, self.progress
        self.run.distribution.weights.model.train()
        self._require_same()
        self._start_clock()
        for batches in self.run.step_batches(progress.step, self.total):
            if self._time_is_up():
                self._prune_at_the_end()  # before the last evaluation, which follows
                break
            if progress.step % train.eval_interval == 0:
                self._untimed(self._evaluate)
            self._step(batches)
            self.run.beat(progress.step, "training", self.divergence.loss)
            if self.run.stop_requested():
                self._untimed(self._checkpoint)
                raise Stopped(f"after step {progress.step}")
            interval = train.checkpoint_interval
            if interval and progress.step % interval == 0:
                self._untimed(self._checkpoint)
        self.divergence.check_all()
        progress.train_time = self.clock.read()
        self._evaluate(last=True)
        return "tokens" if progress.step == self.total else "time"

    def _step(self, batches: StepBatches) -> None:
        """One optimizer step over the micro-batches; the mean of their losses."""
        run, progress = self.run, self.progress
        step, states = progress.step, generators(self.kind)
        lr = optim.learning_rate(run.settings.optim, self._budget_spent(), self.total)
        self.step.set_rate(lr)
        self._loss, self._norm = self.step.take(batches)
        self.divergence.watch(step, self._loss, self._norm, states)
        progress.step = step + 1
        self.step.refresh(self._prune())
        if self.time_to_first_step is None:
            self._note_first_step()
        if step < self.warm_until:
            self._start_clock()
        else:
            progress.timed_steps += 1
        if step % run.settings.train.log_interval == 0 or progress.step == self.total:
            self._log(step, lr)

    def _note_first_step(self) -> None:
        """How long this process took to its first step, compilation included."""
        device.synchronize(self.kind)
        self.time_to_first_step = time.monotonic() - self.run.began
        self.display.note(f"first step after {self.time_to_first_step:.1f} s")

    def _prune_at_the_end(self) -> None:
        """What is due at the end of a time budget, which no step may have seen."""
        if self.run.settings.train.budget == "time" and self.run.pruner is not None:
            self.step.refresh(self._prune(1.0))

    def _prune(self, spent: float | None = None) -> bool:
        """Masks after a step: new ones when due, and pruned weights at zero.

        spent: the fraction of the budget, None: what it is now. Whether that changed
        weights.
        """
        pruner = self.run.pruner
        if pruner is None:
            return False
        spent = self._budget_spent() / self.total if spent is None else spent
        try:
            return pruner.after_step(self.progress.step, spent)
        except ArithmeticError as error:
            self.divergence.check_all()
            step = self.progress.step - 1
            raise Diverged(f"{error}, at step {step}", step) from error

    def _budget_spent(self) -> float:
        """Budget spent, in steps: their number, or the share of the time."""
        train = self.run.settings.train
        if train.budget == "tokens":
            return self.progress.step
        return min(self.clock.read() / train.max_time, 1.0) * self.total

    def _time_is_up(self) -> bool:
        limit = self.run.settings.train.max_time
        return bool(limit) and self.clock.read() >= limit

    def _log(self, step: int, lr: float) -> None:
        self.divergence.check_all()
        seconds = self.clock.read()
        steps, since = self._last_log
        self._last_log = (self.progress.timed_steps, seconds)
        rate = None
        if self.progress.timed_steps > steps and seconds > since:
            rate = (self.progress.timed_steps - steps) * self.tokens_per_step
            rate /= seconds - since
        row = {
            "kind": "train",
            "step": step,
            "loss": self._loss.item(),
            "lr": lr,
            "grad_norm": self._norm.item(),
            "tokens": (step + 1) * self.tokens_per_step,
            "time": seconds,
            "tokens_per_s": rate,
            "mfu": self._utilisation(rate),
        }
        if self.run.pruner is not None:
            row["sparsity"] = self.run.pruner.sparsity()
        self.run.record(row)
        self.display.step(step + 1, _step_line(row))

    def _utilisation(self, rate: float | None) -> float | None:
        """MFU: FLOP/s of the tokens that all ranks train in a second, over the peak of
        all their devices; None where one is unknown.
        """
        peak = self.run.info.peak_flops
        if rate is None or peak is None:
            return None
        return rate * self.run.counts.flops_per_token / (peak * self.run.ranks.world)

    def _evaluate(self, last: bool = False) -> None:
        """Evaluate, and record it; the last one keeps the losses of every unit.

        Where that one reads another text, `curve_loss` is of the text of the others.
        """
        run, progress = self.run, self.progress
        text = run.last_text if last else run.eval_text
        self.divergence.check_all()
        self._require_same()
        began, more = time.perf_counter(), {}
        if text is not run.eval_text:
            more = {"curve_loss": self._evaluated(run.eval_text, None).loss}
        losses = UnitLosses(text.units()) if last else None
        result = self._evaluated(text, losses)
        if losses is not None:
            self.last_losses = losses.units, losses.nats(run.ranks)
        progress.eval_time += time.perf_counter() - began
        row = {
            "kind": "eval",
            "step": progress.step,
            **asdict(result),
            **more,
            "tokens": progress.step * self.tokens_per_step,
            "time": self.clock.seconds,
        }
        if not math.isfinite(result.loss):
            why = f"validation loss {result.loss} at step {progress.step}"
            raise Diverged(why, max(progress.step - 1, 0))
        run.record(row)
        self.display.note(_evaluation_line(row))
        self.last_eval = row
        if run.settings.train.attention_stats:
            with run.distribution.whole() as model:
                self._record_attention_statistics(model)

    def _evaluated(self, text: EvaluationText, losses: UnitLosses | None) -> Evaluation:
        """Of the whole model on a text; all ranks take part."""
        run = self.run
        with run.distribution.whole() as model:
            return evaluate(
                model,
                text.windows,
                run.batch.micro,
                text.bytes_per_token,
                self.kind,
                self.step.autocast,
                self._between_windows,
                run.ranks,
                run.separator,
                losses,
            )

    def _require_same(self) -> None:
        """Raise RanksDiffer where the ranks no longer train one model."""
        run = self.run
        run.distribution.require_same(run.pruner, self.progress.step)

    def _between_windows(self) -> None:
        """A long evaluation moves, and ends early when the run is to stop."""
        self.run.beat(self.progress.step, "evaluating")
        if self.run.batch.ranks == 1 and self.run.stop_requested():
            self._checkpoint()
            raise Stopped(f"after step {self.progress.step}")

    def _record_attention_statistics(self, model: GPT) -> None:
        """What the heads do, as a row of its own; by the rank that keeps the records."""
        run = self.run
        if not run.ranks.main:
            return
        began = time.perf_counter()
        statistics = attention_stats(
            model, run.eval_text.windows, self.kind, run.separator
        )
        self.progress.eval_time += time.perf_counter() - began
        run.record({"kind": "attention", "step": self.progress.step, **statistics})

    def _checkpoint(self) -> None:
        self.divergence.check_all()
        self.run.beat(self.progress.step, "saving")
        self.progress.train_time = self.clock.seconds
        run = self.run
        checkpoint.save(
            run.checkpoints,
            run.identity,
            self.progress,
            run.distribution,
            run.optimizer,
            run.pruner,
        )

    def _untimed(self, work: Callable[[], None]) -> None:
        """Do something that is not training."""
        self.clock.pause()
        work()
        self._start_clock()

    def _start_clock(self) -> None:
        """Training time runs from here on, unless the next step still warms up."""
        if self.progress.step >= self.warm_until:
            self.clock.start()


def _step_line(row: dict[str, Any]) -> str:
    """What the log says of a training step."""
    parts = [f"train loss {row['loss']:.4f} nats/token", f"lr {row['lr']:.2e}"]
    if row["tokens_per_s"] is not None:
        parts.append(f"{row['tokens_per_s']:,.0f} tokens/s")
    if row["mfu"] is not None:
        parts.append(f"MFU {100 * row['mfu']:.1f} %")
    return "  ".join(parts)


def _evaluation_line(row: dict[str, Any]) -> str:
    """What the log says of an evaluation."""
    return (
        f"evaluation at step {row['step']}: val loss {row['loss']:.4f} nats/token, "
        f"perplexity {row['perplexity']:.2f}, {row['bits_per_byte']:.4f} bits/byte"
    )
