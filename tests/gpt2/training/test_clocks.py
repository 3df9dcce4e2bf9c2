"""Every clock and counter of a trained cell, derived by hand from a scripted time.

What is a run's time: training counts from the end of the last warm-up step to the end
of the loop, waiting for batches, logging and asking included; evaluations, attention
statistics and checkpoints do not count, warm-up steps of an attempt count in nothing.
"""

import dataclasses
import io
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2.pruning import Pruner
from gpt2.settings.run import OptimSettings, run_settings
from gpt2.training import cell, clock, device, progress
from gpt2.training.progress import duration
from kconf import config_py
from records.cell import read_status
from records.jsonl import read_rows
from records.layout import CellDir
from tests.gpt2.script import Script, install, seconds

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
BEFORE = seconds(settings=1, build=1, beat=1, resume=1)
AFTER = seconds(weights=1)


@pytest.fixture
def script(monkeypatch) -> Script:
    """The time of every run of this test."""
    script = Script()
    install(script, monkeypatch)
    return script


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


def test_a_run_that_nobody_disturbs(cell, train, script):
    directory = cell(**SYMBOLS)
    said = train(directory).stdout
    at_2 = TAIL + STEP  # step 1 was the last that warmed up
    eval_4 = at_2 + SHOW + TAIL + STEP + TAIL + FEED
    at_4 = eval_4 + WORK
    at_6 = at_4 + SHOW + TAIL + STEP + TAIL + STEP
    at_7 = at_6 + SHOW + TAIL + STEP
    end = at_7 + SHOW + TAIL
    assert rows(directory) == [
        eval_row(1, 0, 0.0),
        train_row(1, 0, 0.0, None),
        train_row(1, 2, at_2, TOKENS / at_2),
        eval_row(1, 4, eval_4),
        train_row(1, 4, at_4, 2 * TOKENS / (at_4 - at_2)),
        train_row(1, 6, at_6, 2 * TOKENS / (at_6 - at_4)),
        train_row(1, 7, at_7, TOKENS / (at_7 - at_6)),
        eval_row(1, 8, end),
    ]
    whole = BEFORE + 8 * (STEP + TAIL) + 5 * SHOW + 3 * EVAL + 2 * SAVE + AFTER
    assert summary(directory) == {
        "stopped_by": "tokens",
        "attempts": 1,
        "step": 8,
        "tokens": 8 * TOKENS,
        "wall_time": whole,
        "total_time_all_attempts": whole,
        "time_to_first_step": BEFORE + FEED + EVAL + WORK,
        "train_time": end,
        "eval_time": 3 * EVAL,
        "average_step_time": end / 6,
        "tokens_per_s": 6 * TOKENS / end,
    }
    assert attempts(directory) == [
        ("start", 1, None, None, None),
        ("end", 1, "done", 8, whole),
    ]
    start, last = read_rows(directory / "attempts.jsonl")
    assert start["time"] == 1e6 - seconds(settings=1)
    assert last["time"] == 1e6 - whole
    _shown_as_it_was(said, script, began=BEFORE, total=8, start=0)
    assert f"first step after {BEFORE + FEED + EVAL + WORK:.1f} s" in said
    assert "= 8 sequences, 128 tokens a step" in said
    assert "parameters, width 32, MLP 64, vocabulary 257, attn:MLP 1:" in said
    last = f"{clocked(end)} training, {clocked(whole)} in all, {1e3 * end / 6:.1f} ms"
    assert said.splitlines()[-1].startswith("done: 8 steps, 1,024 tokens, loss ")
    assert said.splitlines()[-1].endswith(f"; {last}/step")
    facts = read_rows(directory / "metrics.jsonl")[0]
    sizes = {"tokens_per_step": TOKENS, "effective_batch": 8, "micro_batch": 4}
    sizes |= {"accumulation": 2, "ranks": 1, "max_iters": 8, "budget": "tokens"}
    assert {**facts, **sizes, "eval_windows": 8} == facts
    beats = read_rows(directory / "heartbeat_rank0.jsonl")
    assert [(row["step"], row["phase"]) for row in beats] == [
        (0, "starting"),
        (0, "evaluating"),
        (1, "training"),
        (3, "saving"),
        (4, "training"),
        (4, "evaluating"),
        (5, "training"),
        (6, "saving"),
        (7, "training"),
        (8, "evaluating"),
    ]


def _shown_as_it_was(
    said: str, script: Script, began: float, total: int, start: int
) -> None:
    """The lines of logged steps: how far, how fast, how long still."""
    lines = [line.split("  ") for line in said.splitlines() if line.startswith("step ")]
    assert len(lines) == len(script.shown)
    for parts, now in zip(lines, script.shown):
        done, of = map(int, parts[0].removeprefix("step ").split("/"))
        left = (now - began) / (done - start) * (total - done)
        assert of == total and parts[-1] == f"ETA {clocked(left)}", parts


def clocked(seconds: float) -> str:
    """3m05s, 12s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def killed(script: Script, directory: Path, name: str, count: int) -> Path:
    """Where a copy of the directory will lie, as a kill would leave it when `name`
    happens for the n-th time.
    """
    copy = directory.with_name("killed")
    script.on[name, count] = lambda: shutil.copytree(directory, copy)
    return copy


def test_a_kill_forgets_what_was_not_saved(cell, train, script):
    """Steps 3 to 5 are trained again: their first seconds count in nothing."""
    copy = killed(script, first := cell(**SYMBOLS), "ask", 2 + 5 + 2)
    train(first)  # the copy is made after step 4 and an evaluation at 0 and at 4
    before = script.now
    script.shown.clear()
    said = train(copy).stdout
    assert "resumed at step 3" in said
    at_2 = TAIL + STEP
    saved = at_2 + SHOW + TAIL
    at_6 = saved + SHOW + TAIL + STEP + TAIL + STEP
    at_7 = at_6 + SHOW + TAIL + STEP
    end = at_7 + SHOW + TAIL
    assert [row for row in rows(copy) if row["attempt"] == 2] == [
        eval_row(2, 4, saved),
        train_row(2, 4, saved, None),
        train_row(2, 6, at_6, 2 * TOKENS / (at_6 - saved)),
        train_row(2, 7, at_7, TOKENS / (at_7 - at_6)),
        eval_row(2, 8, end),
    ]
    whole = BEFORE + 5 * (STEP + TAIL) + 3 * SHOW + 2 * EVAL + SAVE + AFTER
    assert summary(copy) == {
        "stopped_by": "tokens",
        "attempts": 2,
        "step": 8,
        "tokens": 8 * TOKENS,
        "wall_time": whole,
        "total_time_all_attempts": whole,
        "time_to_first_step": BEFORE + STEP,
        "train_time": end,
        "eval_time": 3 * EVAL,
        "average_step_time": end / (1 + 3),
        "tokens_per_s": (1 + 3) * TOKENS / end,
    }
    assert attempts(copy) == [
        ("start", 1, None, None, None),
        ("start", 2, None, None, None),
        ("end", 2, "done", 8, whole),
    ]
    _shown_as_it_was(said, script, began=before + BEFORE, total=8, start=3)


def terminate() -> None:
    """SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_keeps_its_seconds(cell, train, script):
    """After step 4: a checkpoint of step 5, no step is trained twice. Then 5 and 6
    warm up, and 7 is timed from the log of 6 on.
    """
    directory = cell(**SYMBOLS)
    script.on["ask", 2 + 5 + 2] = terminate
    done = train(directory)
    assert done.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 5" in done.stdout
    at_2 = TAIL + STEP
    at_4 = at_2 + SHOW + TAIL + STEP + TAIL + STEP
    saved = at_4 + SHOW + TAIL
    stopped = BEFORE + 5 * (STEP + TAIL) + 3 * SHOW + 2 * EVAL + 2 * SAVE
    assert attempts(directory)[1:] == [("end", 1, "stopped", 5, stopped)]
    status = read_status(CellDir(directory))
    assert status.reason == "interrupted, goes on from the checkpoint of step 5"
    done = train(directory)
    at_7 = saved + SHOW + TAIL + STEP
    end = at_7 + SHOW + TAIL
    assert [row for row in rows(directory) if row["attempt"] == 2] == [
        train_row(2, 6, saved, None),
        train_row(2, 7, at_7, TOKENS / (at_7 - saved)),
        eval_row(2, 8, end),
    ]
    whole = BEFORE + 3 * (STEP + TAIL) + 2 * SHOW + EVAL + SAVE + AFTER
    found = summary(directory)
    assert (found["train_time"], found["eval_time"]) == (end, 3 * EVAL)
    assert found["wall_time"] == whole
    assert found["total_time_all_attempts"] == stopped + whole
    assert f"{clocked(end)} training, {clocked(stopped + whole)} in all" in done.stdout
    assert found["average_step_time"] == end / (3 + 1)
    assert found["tokens_per_s"] == (3 + 1) * TOKENS / end
    assert attempts(directory)[-1] == ("end", 2, "done", 8, whole)


def test_a_failure_says_how_far_it_came(cell, train, script):
    """Within step 5: five steps are done, and their seconds are on record."""
    directory = cell(**SYMBOLS)

    def fail() -> None:
        raise OSError(5, "Input/output error")

    script.on["update", 6] = fail
    assert train(directory).returncode == 1
    taken = BEFORE + 5 * (STEP + TAIL) + 3 * SHOW + 2 * EVAL + SAVE
    taken += FEED + seconds(micro=2, update=1)
    assert attempts(directory)[1:] == [("end", 1, "failed", 5, taken)]
    script.on.clear()
    assert train(directory).returncode == 0
    found = summary(directory)
    assert found["attempts"] == 2
    assert found["total_time_all_attempts"] == taken + found["wall_time"]


def test_a_stop_within_an_evaluation(cell, train, script):
    """The evaluation that was begun counts in nothing and is made again."""
    directory = cell(**SYMBOLS)
    script.on["ask", 2 + 4 + 1] = terminate
    assert train(directory).returncode == 128 + signal.SIGTERM
    saved = TAIL + STEP + SHOW + TAIL + STEP + TAIL + FEED
    begun = seconds(eval=1, window=1, beat=1, ask=1)
    stopped = BEFORE + 4 * (STEP + TAIL) + FEED + 2 * SHOW + EVAL + begun + 2 * SAVE
    assert attempts(directory)[1:] == [("end", 1, "stopped", 4, stopped)]
    assert train(directory).returncode == 0
    at_6 = saved + TAIL + STEP
    at_7 = at_6 + SHOW + TAIL + STEP
    end = at_7 + SHOW + TAIL
    assert [row for row in rows(directory) if row["attempt"] == 2] == [
        eval_row(2, 4, saved),
        train_row(2, 4, saved, None),
        train_row(2, 6, at_6, TOKENS / (at_6 - saved)),
        train_row(2, 7, at_7, TOKENS / (at_7 - at_6)),
        eval_row(2, 8, end),
    ]
    found = summary(directory)
    assert (found["train_time"], found["eval_time"]) == (end, 3 * EVAL)
    assert found["average_step_time"] == end / (2 + 2)
    assert found["total_time_all_attempts"] == stopped + found["wall_time"]


TIMED = {
    **SYMBOLS,
    "BUDGET_TIME": "y",
    "GPT2_MAX_TIME": "1",
    "GPT2_MAX_ITERS": "1000",
    "LOG_INTERVAL": "1",
}
BETWEEN = SHOW + TAIL + FEED
"""From a logged step's row to the look at the budget before the next step."""


def rates(directory: Path) -> dict[int, float]:
    """The learning rate of each step's last row."""
    found = read_rows(directory / "metrics.jsonl")
    return {row["step"]: row["lr"] for row in found if row["kind"] == "train"}


def optim(directory: Path) -> OptimSettings:
    return run_settings(config_py.read(directory / "config.py").values).optim


def test_a_time_budget_ends_within_an_interval(cell, train, script):
    """Before step 5, whose batch has come: 1033/1024 s of training, four of its rates
    follow the time.
    """
    directory = cell(**TIMED)
    assert train(directory).returncode == 0
    at = {2: BETWEEN}
    for step in (3, 4, 5):
        at[step] = at[step - 1] + WORK + BETWEEN
    assert at[4] < 1 <= at[5] == 1033 / 1024
    assert rows(directory) == [
        eval_row(1, 0, 0.0),
        train_row(1, 0, 0.0, None),
        train_row(1, 1, 0.0, None),
        train_row(1, 2, at[2] + WORK, TOKENS / (at[2] + WORK)),
        train_row(1, 3, at[3] + WORK, TOKENS / (WORK + BETWEEN)),
        eval_row(1, 4, at[4]),
        train_row(1, 4, at[4] + WORK, TOKENS / (WORK + BETWEEN)),
        eval_row(1, 5, at[5]),
    ]
    found = summary(directory)
    assert (found["stopped_by"], found["step"]) == ("time", 5)
    assert (found["tokens"], found["train_time"]) == (5 * TOKENS, at[5])
    assert found["tokens_per_s"] == 3 * TOKENS / at[5]
    assert found["eval_time"] == 3 * EVAL
    spent = {0: 0.0, 1: 0.0, 2: at[2], 3: at[3], 4: at[4]}
    wanted = {k: rate(optim(directory), 1000 * s, 1000) for k, s in spent.items()}
    assert rates(directory) == pytest.approx(wanted, rel=1e-12)


def test_a_budget_that_is_just_used_up_is_used_up(cell, train, script):
    """To the clock's last digit, before step 4, whose evaluation is not made twice."""
    directory = cell(**TIMED)
    short = 1.0 - (BETWEEN + 2 * (WORK + BETWEEN))

    def later() -> None:
        script.now += short

    script.on["feed", 5] = later
    assert train(directory).returncode == 0
    found = summary(directory)
    assert (found["step"], found["train_time"]) == (4, 1.0)
    assert found["eval_time"] == 2 * EVAL
    assert rows(directory)[-1] == eval_row(1, 4, 1.0)


def test_a_time_budget_after_a_kill(cell, train, script):
    """What the checkpoint of step 3 had spent is spent; warming up spends nothing."""
    copy = killed(script, first := cell(**TIMED), "ask", 2 + 4)
    train(first)
    assert train(copy).returncode == 0
    saved = BETWEEN + WORK + SHOW + TAIL
    at = {3: saved, 4: saved, 5: saved + BETWEEN}
    for step in (6, 7):
        at[step] = at[step - 1] + WORK + BETWEEN
    assert at[6] < 1 <= at[7]
    assert [row for row in rows(copy) if row["attempt"] == 2] == [
        train_row(2, 3, saved, None),
        eval_row(2, 4, saved),
        train_row(2, 4, saved, None),
        train_row(2, 5, at[5] + WORK, TOKENS / (BETWEEN + WORK)),
        train_row(2, 6, at[6] + WORK, TOKENS / (BETWEEN + WORK)),
        eval_row(2, 7, at[7]),
    ]
    found = summary(copy)
    assert (found["stopped_by"], found["step"]) == ("time", 7)
    assert (found["train_time"], found["eval_time"]) == (at[7], 3 * EVAL)
    assert found["average_step_time"] == at[7] / (1 + 2)
    wanted = {k: rate(optim(copy), 1000 * at[k], 1000) for k in (3, 4, 5, 6)}
    second = {k: lr for k, lr in rates(copy).items() if k >= 3}
    assert second == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("interval", [{}, {"GPT2_EVAL_INTERVAL": "5"}])
def test_pruning_follows_the_time_that_is_spent(
    cell, train, script, monkeypatch, interval
):
    """The share after each update, and all of it at the end; masks take their time.

    The last evaluation is of the weights that are kept, also where the time is up at
    a step that is evaluated anyhow.
    """
    seen, plain = [], Pruner.after_step

    def noted(self, steps: int, spent: float) -> bool:
        seen.append((steps, spent))
        return plain(self, steps, spent)

    monkeypatch.setattr(Pruner, "after_step", noted)
    pruning = {"PRUNING_MAGNITUDE": "y", "PRUNING_END": "1"}
    directory = cell(**{**TIMED, **pruning, **interval})
    assert train(directory).returncode == 0
    updated, masked = seconds(micro=2, device=1, update=1), seconds(prune=1, refresh=1)
    at = {2: BETWEEN}
    for step in (3, 4, 5):
        at[step] = at[step - 1] + updated + masked + BETWEEN
    assert at[4] < 1 <= at[5]
    shares = [(k + 1, at[k] + updated) for k in (2, 3, 4)]
    assert [steps for steps, _ in seen] == [1, 2, 3, 4, 5, 5]
    assert [spent for _, spent in seen] == pytest.approx(
        [0.0, 0.0, *(min(share, 1.0) for _, share in shares), 1.0], rel=1e-12
    )
    found = summary(directory)
    assert (found["step"], found["train_time"]) == (5, at[5] + masked)
    last = [row for row in rows(directory) if row["kind"] == "eval"][-1]
    assert last == eval_row(1, 5, at[5] + masked)
    record = json.loads((directory / "summary.json").read_text())
    assert record["sparsity"]["covered"] == pytest.approx(0.5, abs=1e-4)


def test_a_limit_ends_a_token_budget(cell, train, script):
    """The rates follow the steps; attention statistics are no training."""
    limit = {"GPT2_MAX_TIME": "1", "GPT2_MAX_ITERS": "1000"}
    directory = cell(**{**SYMBOLS, **limit, "LOG_ATTENTION_STATS": "y"})
    assert train(directory).returncode == 0
    end = TAIL + FEED + 4 * (WORK + TAIL + FEED) + 2 * SHOW
    assert end - WORK - TAIL - FEED < 1 <= end
    found = summary_of_any(directory)
    assert (found["stopped_by"], found["step"]) == ("time", 6)
    assert found["train_time"] == end
    assert found["eval_time"] == 3 * (EVAL + seconds(look=1))
    heads = read_rows(directory / "metrics.jsonl")
    assert [r["step"] for r in heads if r["kind"] == "attention"] == [0, 4, 6]
    wanted = {k: rate(optim(directory), k, 1000) for k in (0, 2, 4)}
    assert rates(directory) == pytest.approx(wanted, rel=1e-12)


def summary_of_any(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text())


def test_without_a_warm_up_every_step_is_timed(cell, train, script, monkeypatch):
    """From the first batch on; MFU is of the same seconds."""
    plain, peak = device.describe, 2.0**40
    told = lambda kind: dataclasses.replace(plain(kind), peak_flops=peak)  # noqa: E731
    monkeypatch.setattr(device, "describe", told)
    short = {"TIMING_WARMUP_STEPS": "0", "GPT2_MAX_ITERS": "2", "LOG_INTERVAL": "1"}
    directory = cell(**{**SYMBOLS, **short})
    assert train(directory).returncode == 0
    end = 2 * (STEP + SHOW + TAIL)
    both = [row for row in rows(directory) if row["kind"] == "train"]
    assert [row["time"] for row in both] == [STEP, STEP + SHOW + TAIL + STEP]
    speeds = [TOKENS / STEP, TOKENS / (SHOW + TAIL + STEP)]
    assert [row["tokens_per_s"] for row in both] == speeds
    flops = summary_of_any(directory)["facts"]["flops_per_token"]
    shares = [speed * flops / peak for speed in speeds]
    assert [row["mfu"] for row in both] == pytest.approx(shares, rel=1e-12)
    found = summary(directory)
    assert (found["train_time"], found["average_step_time"]) == (end, end / 2)
    assert found["tokens_per_s"] == 2 * TOKENS / end
    loss = read_rows(directory / "metrics.jsonl")[2]["loss"]
    beats = read_rows(directory / "heartbeat_rank0.jsonl")
    assert [(row["step"], row["phase"], row["loss"]) for row in beats] == [
        (0, "starting", None),
        (0, "evaluating", None),
        (1, "training", loss),
        (2, "evaluating", None),
    ]


def test_a_run_that_only_warms_up_has_no_speed(cell, train, script):
    directory = cell(**{**SYMBOLS, "GPT2_MAX_ITERS": "2"})
    said = train(directory).stdout
    found = summary(directory)
    assert (found["tokens"], found["train_time"]) == (2 * TOKENS, SHOW + TAIL)
    assert found["average_step_time"] is None and found["tokens_per_s"] is None
    assert "no timed step" in said


def test_a_clock_by_itself():
    """Between start and pause it counts, with what the device still does."""
    script = Script()
    patch = pytest.MonkeyPatch()
    patch.setattr(clock, "time", script.clocks)
    one = clock.Clock(3.0, lambda: script.synchronize("cpu"))

    def passes(seconds: float, queued: float = 0.0) -> None:
        script.now, script.queued = script.now + seconds, script.queued + queued

    passes(1)
    assert one.read() == 3.0
    passes(1, queued=16)
    one.start()  # what was queued before is not its work
    passes(2, queued=4)
    assert one.read() == one.seconds == 9.0
    passes(1, queued=8)
    one.pause()
    assert one.seconds == 18.0
    passes(32)
    assert one.read() == 18.0
    one.start()
    passes(0.5)
    one.start()  # drops what ran since the last reading
    passes(0.25)
    assert one.read() == 18.25
    patch.undo()


@pytest.mark.parametrize(
    "seconds, said",
    {0: "0s", 59.4: "59s", 59.6: "1m00s", 185: "3m05s", 3600: "1h00m"}.items(),
)
def test_durations(seconds, said):
    assert duration(seconds) == said
    assert duration(2 * 3600 + 34 * 60 + 56) == "2h34m"


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    """A quarter done in 10 s since step 2: 30 s to go, five of twenty marks."""
    script, stream = Script(), Terminal()
    monkeypatch.setattr(progress, "time", script.clocks)
    monkeypatch.setattr(sys, "stdout", stream)
    shown = progress.Display(42, 2)
    script.now += 10
    row = {"step": 11, "loss": 2.5, "lr": 3e-4, "tokens_per_s": 1234.5, "mfu": 0.1234}
    shown.train(row)
    line = "step 12/42  loss 2.5000  lr 3.00e-04  1,234 tok/s  MFU 12.3%  ETA 30s"
    bar = f"[{'#' * 6}{'.' * 14}] {line}"
    assert stream.getvalue() == f"\r{bar}"
    shown.note("said")
    assert stream.getvalue() == f"\r{bar}\r{' ' * len(bar)}\rsaid\n"


@pytest.mark.parametrize("kind, wanted, count", [("cuda", 1.5, 2), ("cpu", 1.5, 0)])
def test_the_monitor_knows_attempt_step_and_interval(
    tmp_path, monkeypatch, kind, wanted, count
):
    """The GPUs of this host that the run has, sampled as configured."""
    made = []
    monkeypatch.setattr(cell.gpu_monitor, "Monitor", lambda *found: made.append(found))
    monkeypatch.setattr(cell.gpu_monitor, "reader", lambda count, say: count)
    monkeypatch.setattr(cell.torch.cuda, "device_count", lambda: 2)
    system = SimpleNamespace(gpu_monitor=True, gpu_monitor_interval=wanted)
    about = SimpleNamespace(
        settings=SimpleNamespace(system=system),
        info=SimpleNamespace(kind=kind),
        ranks=SimpleNamespace(main=True),
        batch=SimpleNamespace(ranks=4),
    )
    shown, far = SimpleNamespace(note=print), SimpleNamespace(step=7)
    loop = SimpleNamespace(run=about, display=shown, progress=far)
    cell._monitor(CellDir(tmp_path), loop, 3)
    assert len(made) == (count > 0)
    for path, attempt, build, step, say, interval in made:
        assert (path, attempt, interval) == (tmp_path / "gpu.jsonl", 3, wanted)
        assert (build(), step()) == (count, 7) and say is print
