"""One cell, from its directory to its summary.

`execute` reads run.json and config.py of the run directory, takes the lease,
trains, and writes what happened: rows to attempts.jsonl and metrics.jsonl,
summary.json last. It returns the exit status of the process.
"""

import contextlib
import os
import platform
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpt2 import optim, pruning
from gpt2.data.loading import batch
from gpt2.data.loading.corpus import Corpus
from gpt2.data.loading.loader import LoaderTimeout
from gpt2.data.shards import ShardError
from gpt2.distributed import build as distributed
from gpt2.distributed.ranks import ALONE, Ranks, RanksError, Unrecorded, dropout_seed
from gpt2.model.costs import count
from gpt2.model.gpt import GPT, resolve_loss
from gpt2.model.initial import initialise
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.model.mixers.recurrence_impl import resolve_recurrence
from gpt2.settings.run import RunSettings, run_settings
from gpt2.training import checkpoint, device, gpu_monitor
from gpt2.training.device_errors import DeviceLost, OutOfMemory, explained
from gpt2.training.divergence import Diverged, write_diverged
from gpt2.training.log_lines import first_lines, last_line, training_summary
from gpt2.training.memory import memory_estimate
from gpt2.training.stop_signals import Deadline, StopSignals
from gpt2.training.trainer import Run, Stopped, Trainer
from kconf import config_py
from kconf.bind import SettingsError
from kconf.syntax import ConfigError
from records import atomic, completion, read, unit_losses
from records.cell import read_status, spent_seconds
from records.heartbeat import Heartbeat
from records.jsonl import Appender, Row, open_append
from records.layout import SCHEMA, CellDir, RecordError
from records.lease import Lease, LeaseHeld
from records.manifest import ManifestError, MissingDataset
from records.provenance import caches, numeric_environment, placement, triton_version
from records.unit_losses import UnitLosses

DONE, FAILED, HELD = 0, 1, 75
TRAIN = -1  # what rank 0 sends to the others when there is something to train

# What a user can cause and mend: reported without a traceback.
EXPECTED = (
    SettingsError,
    RecordError,
    device.DeviceError,
    ShardError,
    MissingDataset,
    ManifestError,
    checkpoint.CheckpointError,
    Diverged,
    OutOfMemory,
    DeviceLost,
    LoaderTimeout,
    RanksError,
    OSError,
)


@dataclass(frozen=True)
class _Task:
    """What there is to train."""

    cell: CellDir
    data_dir: Path
    settings: RunSettings


def execute(
    directory: Path,
    data_dir: Path,
    ranks: Ranks = ALONE,
    settings: RunSettings | None = None,
) -> int:
    """Train the cell in `directory`; 0 done, 1 failed, 75 held, 128+n stopped.

    A cell that another process has finished in the meantime is left as it is.
    Every rank calls this, and all return the same in the end. settings: those of the
    cell's config.py, where the caller has read it.
    """
    cell = CellDir(directory)
    try:
        if settings is None:
            settings = run_settings(config_py.read(cell.config_py).values)
        task = _Task(cell, data_dir, settings)
        with ranks.explained():
            if not ranks.main:
                return _as_other_rank(task, ranks)
            with Lease(cell.lease).acquire() as lease, StopSignals(ranks) as stop:
                identity = read.trained(cell.run_json)["cell"]["hash"]
                if read_status(cell, identity).state == "done":
                    print(f"{directory}: done already")
                    return int(ranks.broadcast(DONE))
                ranks.broadcast(TRAIN)
                return _attempt(task, lease, stop)
    except LeaseHeld as error:
        print(error, file=sys.stderr)
        return int(ranks.broadcast(HELD))
    except (ConfigError, SettingsError, RecordError, RanksError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _as_other_rank(task: _Task, ranks: Ranks) -> int:
    """The cell as a rank other than 0: what goes wrong is left for 0 to record."""
    verdict = int(ranks.broadcast(TRAIN))
    if verdict != TRAIN:
        return verdict
    none = Unrecorded()
    with StopSignals(ranks) as stop:
        try:
            with ranks.explained():
                _train(task, none, stop, 0, none, none, {})
        except Stopped:
            return 128 + stop.number
        except BaseException as error:
            ranks.report_failure(error)
            if not isinstance(error, EXPECTED):
                raise
            return FAILED
    return DONE


def _attempt(task: _Task, lease: Lease, stop: StopSignals) -> int:
    """One attempt under the lease, with its start and end on record."""
    cell = task.cell
    earlier = _attempt_rows(cell)
    attempt = 1 + sum(row["event"] == "start" for row in earlier)
    cell.failure.unlink(missing_ok=True)
    began = time.monotonic()
    with open_append(cell.attempts) as attempts:
        end = completion.end_row(attempt, "failed", None, 0)

        def times() -> dict[str, float]:
            return {"time": time.time(), "seconds": time.monotonic() - began}

        def record_end(**known: Any) -> None:
            attempts.append({**end, **known, **times()})

        def out_of_time(number: int) -> None:
            error = "no step ended in time after the signal, no checkpoint was written"
            print(f"{signal.Signals(number).name}: {error}", file=sys.stderr)
            record_end(status="stopped", error=error)

        try:
            with (
                open_append(cell.metrics) as metrics,
                Deadline(out_of_time),
                stop.ranks.explained(),
            ):
                _train(task, lease, stop, attempt, attempts, metrics, end)
            status = DONE
        except Stopped as stopped:
            print(f"stopped by {signal.Signals(stop.number).name} {stopped}")
            end["status"], status = "stopped", 128 + stop.number
        except BaseException as error:
            diverged = isinstance(error, Diverged)
            named = str(error) if diverged else f"{type(error).__name__}: {error}"
            status = DONE if cell.summary.exists() else FAILED
            if status == FAILED:
                how = "diverged" if diverged else "failed"
                end.update(status=how, error=named)
                _write_failure(cell, end)
            if not isinstance(error, EXPECTED):
                raise
            print(f"error: {named}", file=sys.stderr)
        finally:
            if not cell.summary.exists():
                record_end()
    if status == DONE:
        _settle(cell, times())
    return status


def _settle(cell: CellDir, times: dict[str, float]) -> None:
    """What follows the summary; where the disk refuses, the next `make` does it."""
    try:
        completion.settle(cell, times)
    except OSError as error:
        print(f"done, to be settled by the next make: {error}", file=sys.stderr)


def _attempt_rows(cell: CellDir) -> list[Row]:
    """The rows of attempts.jsonl so far. Raises RecordError."""
    try:
        return read.attempts(cell.attempts)
    except FileNotFoundError:
        return []


def _write_failure(cell: CellDir, end: dict[str, Any]) -> None:
    """failure.json, where the disk still takes it."""
    with contextlib.suppress(OSError):
        atomic.write_json(
            cell.failure,
            {
                "schema": SCHEMA,
                "attempt": end["attempt"],
                "status": end["status"],
                "exit_code": FAILED,
                "error": end["error"],
                "traceback": traceback.format_exc(),
                "time": time.time(),
            },
        )


def _train(
    task: _Task,
    lease: Lease | Unrecorded,
    stop: StopSignals,
    attempt: int,
    attempts: Appender | Unrecorded,
    metrics: Appender | Unrecorded,
    end: dict[str, Any],
) -> None:
    """Build the run, train it, write the summary; `end["step"]` follows it."""
    began, ranks = time.monotonic(), stop.ranks
    cell, settings = task.cell, task.settings
    identity = read.trained(cell.run_json)["cell"]["hash"]
    info, machine = _prepare(settings, attempt, attempts, ranks)

    def record(row: dict[str, Any]) -> None:
        metrics.append({"attempt": attempt, **row})

    corpus = Corpus(settings, task.data_dir)
    _require_planned(cell, corpus, machine["threads"])
    run, facts_row = _build(cell, settings, info, identity, corpus, ranks)
    run.record, run.stop_requested, run.began = record, stop.requested, began
    heart: Heartbeat | Unrecorded = Unrecorded()
    if ranks.main:
        used = partial(device.memory_used, info.kind)
        heart = Heartbeat(cell.progress(), attempt, used)

    def beat(step: int, phase: str, loss: float | None = None) -> None:
        lease.beat(step)
        heart.beat(step, phase, loss)

    run.beat = beat
    beat(0, "starting")
    if ranks.main:
        checkpoint.remove_half_written(run.checkpoints)
    progress, complaints = checkpoint.resume(
        run.checkpoints, identity, run.distribution, run.optimizer, run.pruner
    )
    end["step"] = progress.step
    record({"kind": "facts", "step": 0, **facts_row})
    trainer = Trainer(run, progress)
    for line in first_lines(run, facts_row, corpus, progress.step) + complaints:
        trainer.display.note(line)
    try:
        with (
            heart,
            _monitor(cell, trainer, attempt),
            explained(settings, run.batch, info, progress),
        ):
            ended = trainer.train()
    except Diverged as error:
        if ranks.main:
            _write_diverged(cell, run, error)
        raise
    finally:
        end["step"] = progress.step
    with run.distribution.whole() as model:
        if not ranks.main:
            return
        metrics.sync()
        if settings.train.save_model:
            checkpoint.save_weights(run.checkpoints, model, facts_row)
        wall = time.monotonic() - began
        trained = training_summary(trainer, model) | _kept_losses(cell, trainer)
    summary = {
        "schema": SCHEMA,
        "status": "done",
        "hash": identity,
        "stopped_by": ended,
        "attempts": attempt,
        "wall_time": wall,
        "keep_checkpoints": settings.train.keep_checkpoints,
        "time_to_first_step": trainer.time_to_first_step,
        "total_time_all_attempts": wall + spent_seconds(_attempt_rows(cell)),
        **trained,
        "facts": facts_row,
        **machine,
    }
    atomic.write_json(cell.summary, summary)
    trainer.display.note(last_line(summary))


def _kept_losses(cell: CellDir, trainer: Trainer) -> dict[str, Any]:
    """Write the losses of the last evaluation; the part of the summary about them."""
    text, (units, nats_U) = trainer.run.last_text, trainer.last_losses
    kept = UnitLosses(units.kind, units.tokens_U.tolist(), nats_U.tolist())
    told = {
        "sha256": unit_losses.write(cell.last_evaluation, kept),
        "text_sha256": text.sha256,
        "windows": len(text.windows),
        "tokens": text.tokens,
        "most_tokens": text.most,
        "bytes": text.bytes,
        "unit": kept.unit,
        "units": len(kept.tokens),
    }
    return {"last_evaluation": told}


def _monitor(
    cell: CellDir, trainer: Trainer, attempt: int
) -> contextlib.AbstractContextManager:
    """What samples the run's GPUs on this host; nothing on the CPU or unasked."""
    run, print_line = trainer.run, trainer.display.note
    system = run.settings.system
    watched = run.info.kind == "cuda" and run.ranks.main
    if not watched or not system.gpu_monitor:
        return contextlib.nullcontext()
    count = min(run.batch.ranks, torch.cuda.device_count())
    return gpu_monitor.Monitor(
        cell.gpu,
        attempt,
        lambda: gpu_monitor.reader(count, print_line),
        lambda: trainer.progress.step,
        print_line,
        system.gpu_monitor_interval,
    )


def _write_diverged(cell: CellDir, run: Run, error: Diverged) -> None:
    """The batch, the generators and the checkpoint of a step that diverged."""
    before = checkpoint.newest(run.checkpoints, error.step)
    try:
        write_diverged(
            cell.diverged,
            error,
            next(run.step_batches(error.step, error.step + 1)),
            before,
        )
    except (OSError, LoaderTimeout) as refused:  # the divergence is what counts
        print(f"{cell.diverged} is incomplete: {refused}", file=sys.stderr)


def _prepare(
    settings: RunSettings,
    attempt: int,
    attempts: Appender | Unrecorded,
    ranks: Ranks,
) -> tuple[device.DeviceInfo, dict[str, Any]]:
    """The device, set up, and what the records say of this machine.

    The attempt's start is recorded whatever happens here, so that attempts are
    counted right when there is no device.
    """
    machine = {
        "device": None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "triton": triton_version(),
        "numeric_environment": numeric_environment(),
        "threads": None,
    }
    gpus: list[str] = []
    try:
        ranks.require(settings.train.ranks)
        kind = device.resolve(settings.system.device)
        device.configure(settings.system, kind, ranks.local_rank)
        info = device.describe(kind)
        if kind == "cuda":
            count = min(ranks.world, torch.cuda.device_count())
            gpus = gpu_monitor.addresses(count)
        machine["device"] = info.as_dict()
        machine["threads"] = torch.get_num_threads() if kind == "cpu" else None
    finally:
        start = {"event": "start", "attempt": attempt, "time": time.time()}
        where = {"pid": os.getpid(), "host": socket.gethostname()}
        where |= {"placement": placement(), "caches": caches(), "gpus": gpus}
        attempts.append({**start, **where, **machine})
    return info, machine


def _require_planned(cell: CellDir, corpus: Corpus, threads: int | None) -> None:
    """The corpus and the threads are those that the cell's identity names."""
    identity = read.trained(cell.run_json)["cell"].get("identity", {})
    here = {"dataset": corpus.manifest.sha256, "threads": threads}
    for name, value in here.items():
        if name in identity and identity[name] != value:
            raise RecordError(
                cell.run_json,
                f"the cell was planned for {name} {identity[name]}, this is {value}: "
                "run make again, it plans anew",
            )


def _build(
    cell: CellDir,
    settings: RunSettings,
    info: device.DeviceInfo,
    identity: str,
    corpus: Corpus,
    ranks: Ranks,
) -> tuple[Run, dict[str, Any]]:
    """The run with fresh initial values, and its facts row."""
    train = settings.train
    sizes = batch.resolve(
        train,
        ranks.world,
        info.total_memory,
        lambda micro: memory_estimate(settings, micro),
    )
    model = GPT(settings.model)
    init_sha256 = initialise(model, train.seed, train.init_salt)
    torch.manual_seed(dropout_seed(train.seed, ranks.rank))
    model.to(info.kind)
    counts = count(model)
    distribution = distributed.build(settings, model, ranks)
    optimizer = distribution.optimizer(settings.optim)
    run = Run(
        settings=settings,
        distribution=distribution,
        optimizer=optimizer,
        pruner=pruning.build(
            distribution.model, optimizer, settings.pruning, settings.optim
        ),
        batch=sizes,
        counts=counts,
        info=info,
        step_batches=lambda first, last: corpus.batches(
            sizes, info.kind, first, last, ranks.rank
        ),
        eval_text=corpus.eval_text,
        last_text=corpus.last_text,
        separator=corpus.separator,
        checkpoints=cell.checkpoint_dir,
        identity=identity,
    )
    facts_row = {
        **counts.as_dict(),
        "tokens_per_step": sizes.effective * settings.model.block_size,
        "effective_batch": sizes.effective,
        "micro_batch": sizes.micro,
        "accumulation": sizes.accumulation,
        "ranks": ranks.world,
        "init_sha256": init_sha256,
        "max_iters": train.max_iters,
        "budget": train.budget,
        "eval_windows": len(corpus.eval_windows),
        "eval_sha256": corpus.eval_sha256,
        "last_eval_windows": len(corpus.last_text.windows),
        "last_eval_sha256": corpus.last_text.sha256,
        "attention_impl": resolve_attention(
            settings.model, info.kind, settings.system.dtype != "fp32"
        ),
        "recurrence_impl": resolve_recurrence(settings.model, info.kind),
        "loss_impl": resolve_loss(settings.model.loss, info.kind),
        "update_impl": optim.resolve_update(settings.optim, info.kind),
        "documents_apart": settings.model.documents_apart,
        "dtype": settings.system.dtype,
        "param_dtype": settings.system.param_dtype,
        "compile": settings.system.compile,
    }
    return run, facts_row
