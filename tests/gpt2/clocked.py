"""A run under a scripted time (tests/gpt2/script.py): what it is, how long its parts
take, and what its records show of clocks and counters.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from gpt2.settings.run import OptimSettings, run_settings
from kconf import config_py
from records.jsonl import read_rows
from tests.gpt2.script import Script, seconds

SYMBOLS = {
    "GPT2_MAX_ITERS": "8",
    "BATCH_SIZE": "4",
    "EFFECTIVE_BATCH": "8",
    "GPT2_EVAL_INTERVAL": "4",
    "GPT2_EVAL_WINDOWS": "8",
    "LOG_INTERVAL": "2",
    "CHECKPOINT_INTERVAL": "3",
    "TIMING_WARMUP_STEPS": "2",
}
TOKENS = 8 * 16
"""Of a step: 8 sequences of 16, in 2 micro-batches."""

FEED, SHOW = seconds(feed=1), seconds(show=1)
WORK = seconds(micro=2, device=1, update=1, refresh=1)
STEP = FEED + WORK
TAIL = seconds(beat=1, ask=1)
"""What follows every step."""
EVAL = seconds(eval=1, window=2, beat=2, ask=2)
"""8 windows, 4 at a time."""
SAVE = seconds(save=1, beat=1)
BEFORE = seconds(setup=1, build=1, beat=1, resume=1)
AFTER = seconds(weights=1)


def rate(optim: OptimSettings, done: float, total: int) -> float:
    """Warm-up and cosine, as docs/configuration.md has them."""
    if done < optim.warmup:
        return optim.lr * (done + 1) / (optim.warmup + 1)
    x = (done - optim.warmup) / (total - optim.warmup)
    return optim.min_lr + (optim.lr - optim.min_lr) * (1 + math.cos(math.pi * x)) / 2


def train_row(attempt: int, step: int, time: float, rate: float | None) -> dict:
    """A logged step."""
    row = {"attempt": attempt, "kind": "train", "step": step, "time": time}
    return {**row, "tokens": (step + 1) * TOKENS, "tokens_per_s": rate, "mfu": None}


def eval_row(attempt: int, step: int, time: float) -> dict:
    """An evaluation after `step` steps."""
    row = {"attempt": attempt, "kind": "eval", "step": step, "time": time}
    return {**row, "tokens": step * TOKENS}


def rows(directory: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without its facts and without what no clock or counter gives."""
    other = {"loss", "lr", "grad_norm", "perplexity", "bits_per_byte", "sparsity"}
    return [
        {key: value for key, value in row.items() if key not in other}
        for row in read_rows(directory / "metrics.jsonl")
        if row["kind"] in ("train", "eval")
    ]


def summary(directory: Path) -> dict[str, Any]:
    """The figures of summary.json that clocks and counters give."""
    names = ("stopped_by", "attempts", "wall_time", "time_to_first_step", "step")
    names += ("total_time_all_attempts", "tokens", "train_time", "eval_time")
    names += ("average_step_time", "tokens_per_s")
    found = json.loads((directory / "summary.json").read_text())
    last = read_rows(directory / "metrics.jsonl")[-1]
    assert {"attempt": found["attempts"], **found["final_eval"]} == last
    return {name: found[name] for name in names}


def attempts(directory: Path) -> list[tuple]:
    """(event, attempt, status, step, seconds) of every row."""
    keys = ("event", "attempt", "status", "step", "seconds")
    found = read_rows(directory / "attempts.jsonl")
    return [tuple(row.get(key) for key in keys) for row in found]


def clocked(seconds: float) -> str:
    """3m 05s, 12s, 7.0s."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def killed(script: Script, directory: Path, name: str, count: int) -> Path:
    """Where a copy of the directory will lie, as a kill would leave it when `name`
    happens for the n-th time.
    """
    copy = directory.with_name("killed")
    script.on[name, count] = lambda: shutil.copytree(directory, copy)
    return copy


def rates(directory: Path) -> dict[int, float]:
    """The learning rate of each step's last row."""
    found = read_rows(directory / "metrics.jsonl")
    return {row["step"]: row["lr"] for row in found if row["kind"] == "train"}


def optim(directory: Path) -> OptimSettings:
    """The settings of its optimizer."""
    return run_settings(config_py.read(directory / "config.py").values).optim


def summary_of_any(directory: Path) -> dict[str, Any]:
    """summary.json as it is."""
    return json.loads((directory / "summary.json").read_text())
