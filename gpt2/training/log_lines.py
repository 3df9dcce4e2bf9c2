"""Lines of a run's log, and the part of its summary that training decides."""

from typing import Any

import torch

from gpt2.data.loading.corpus import Corpus
from gpt2.model.gpt import GPT
from gpt2.model.initial import weights_sha256
from gpt2.training import device
from gpt2.training.trainer import Run, Trainer
from records.durations import duration
from records.plurals import plural


def first_lines(
    run: Run, facts_row: dict[str, Any], corpus: Corpus, step: int
) -> list[str]:
    """The lines of the log before the first step: device, model, batch, data."""
    info, sizes = run.info, run.batch
    threads = (
        f", {plural(torch.get_num_threads(), 'thread')}" if info.kind == "cpu" else ""
    )
    each = f" for each of {sizes.ranks} ranks" if sizes.ranks > 1 else ""
    ratio = facts_row["attn_mlp_ratio"] or facts_row["network_ratio"]
    lines = [
        f"device: {info.name} ({info.kind}{threads}), "
        f"{info.total_memory / 2**30:.1f} GiB{each}, {info.driver or 'no driver'}, "
        f"torch {torch.__version__}",
        f"model: {facts_row['parameters']:,} parameters, width {facts_row['width']}, MLP "
        f"{facts_row['mlp_dim']}, vocabulary {run.settings.model.vocab_size}, attn:MLP 1:"
        f"{ratio:.3f}, {facts_row['flops_per_token'] / 1e6:.1f} MFLOP/token, "
        f"attention {facts_row['attention_impl']}",
        f"batch: {sizes.micro} x {sizes.accumulation} accumulated x "
        f"{plural(sizes.ranks, 'rank')} = {plural(sizes.effective, 'sequence')}, "
        f"{facts_row['tokens_per_step']:,} tokens "
        "a step",
        f"data: {corpus.description}",
    ]
    if facts_row["mixers"] != "attention":
        how = facts_row["recurrence_impl"]
        by = "" if how == "none" else f", recurrences by {how}"
        lines.insert(2, f"layers: {facts_row['mixers']}{by}")
    odd = device.misaligned(run.settings.model)
    if odd and info.kind == "cuda":
        lines.append(f"warning: not multiples of 64, slow on a GPU: {', '.join(odd)}")
    warmup, total = run.settings.optim.warmup, run.settings.train.max_iters
    if warmup >= total:
        lines.append(
            f"warning: the warm-up of {warmup} steps is as long as the run of {total}: "
            "the peak learning rate is never reached"
        )
    if step:
        lines.append(f"resumed at step {step}")
    return lines


def training_summary(trainer: Trainer, model: GPT) -> dict[str, Any]:
    """The part of summary.json that training decides. Times in seconds; tokens/s of
    all ranks together, peak memory of this one. model: with all of its weights.
    """
    run, progress = trainer.run, trainer.progress
    trained_tokens = progress.timed_steps * trainer.tokens_per_step
    summary = {
        "step": progress.step,
        "tokens": progress.step * trainer.tokens_per_step,
        "final_eval": trainer.last_eval,
        "train_time": progress.train_time,
        "eval_time": progress.eval_time,
        "average_step_time": _ratio(progress.train_time, progress.timed_steps),
        "tokens_per_s": _ratio(trained_tokens, progress.train_time) or None,
        "peak_memory_bytes": device.peak_memory(run.info.kind),
        "model_sha256": weights_sha256(model),
    }
    if run.pruner:
        summary["sparsity"] = run.pruner.reached()
    return summary


def last_line(summary: dict[str, Any]) -> str:
    """The last line of the log: totals and averages."""
    step_time = summary["average_step_time"]
    average = "no timed step" if step_time is None else f"{1e3 * step_time:.1f} ms/step"
    return (
        f"done: {plural(summary['step'], 'step')}, {summary['tokens']:,} tokens, "
        f"val loss {summary['final_eval']['loss']:.4f} nats/token; {duration(summary['train_time'])} "
        f"training, {duration(summary['total_time_all_attempts'])} in all, {average}"
    )


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None
