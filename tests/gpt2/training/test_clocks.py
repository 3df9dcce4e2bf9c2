"""Every clock and counter of a trained cell, derived by hand from a scripted time.

What is a run's time: training counts from the end of the last warm-up step to the end
of the loop, waiting for batches, logging and asking included; evaluations, attention
statistics and checkpoints do not count, warm-up steps of an attempt count in nothing.
"""

import dataclasses
import os
import signal

import pytest

from gpt2.training import device
from records.cell import read_status
from records.jsonl import read_rows
from records.layout import CellDir
from tests.gpt2.clocked import (
    AFTER,
    BEFORE,
    EVAL,
    FEED,
    SAVE,
    SHOW,
    STEP,
    SYMBOLS,
    TAIL,
    TOKENS,
    WORK,
    attempts,
    clocked,
    eval_row,
    killed,
    rows,
    summary,
    summary_of_any,
    train_row,
)
from tests.gpt2.script import Script, seconds


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
    assert start["time"] == 1e6 - seconds(setup=1)
    assert last["time"] == 1e6 - whole
    _shown_as_it_was(said, script, began=BEFORE, total=8, start=0)
    assert f"first step after {BEFORE + FEED + EVAL + WORK:.1f} s" in said
    assert "= 8 sequences, 128 tokens a step" in said
    assert "parameters, width 32, MLP 64, vocabulary 257, attn:MLP 1:" in said
    last = f"{clocked(end)} training, {clocked(whole)} in all, {1e3 * end / 6:.1f} ms"
    assert said.splitlines()[-1].startswith("done: 8 steps, 1,024 tokens, val loss ")
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
