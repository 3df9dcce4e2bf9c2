"""What a budget of seconds ends, and what follows the time that is spent."""

import json

import pytest

from gpt2.pruning import Pruner
from records.jsonl import read_rows
from tests.gpt2.clocked import (
    EVAL,
    FEED,
    SHOW,
    SYMBOLS,
    TAIL,
    TOKENS,
    WORK,
    eval_row,
    killed,
    optim,
    rate,
    rates,
    rows,
    summary,
    summary_of_any,
    train_row,
)
from tests.gpt2.script import seconds

TIMED = {
    **SYMBOLS,
    "BUDGET_TIME": "y",
    "GPT2_MAX_TIME": "1",
    "GPT2_MAX_ITERS": "1000",
    "LOG_INTERVAL": "1",
}
BETWEEN = SHOW + TAIL + FEED
"""From a logged step's row to the look at the budget before the next step."""


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
