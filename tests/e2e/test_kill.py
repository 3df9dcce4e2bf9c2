"""kill -9, ten times, at random moments: nothing lost, nothing done twice."""

import random
import time

import pytest

KILLS = 10
INTERVAL = 10
"""Steps between checkpoints."""
RESUMED = 3
"""Least kills of a training that had a checkpoint to go on from."""


@pytest.mark.slow
def test_ten_kills(checkout, kill_9, curve, starts):
    checkout.toy(
        SEEDS='"1-2"',
        GPT2_MAX_ITERS="500",
        GPT2_EVAL_INTERVAL="50",
        CHECKPOINT_INTERVAL=str(INTERVAL),
        GPT2_DROPOUT='"0.1"',
    )
    assert checkout.make("data").status == 0
    assert checkout.make(OUTPUT="calm").status == 0
    calm = checkout.cells("calm")
    assert len(calm) == 4
    seconds = sum(cell.summary["train_time"] for cell in calm.values())
    print(f"\nundisturbed: {seconds:.1f} s of training in 4 cells")

    killed = _storm(checkout, kill_9, min(3.0, seconds / 8))
    last = checkout.make(OUTPUT="stormy")
    assert last.status == 0, last.output

    stormy = checkout.cells("stormy")
    attempts = {name: starts(cell) for name, cell in stormy.items()}
    logs = [cell.dir.train_log.read_text() for cell in stormy.values()]
    resumed = sum(log.count("resumed at step") for log in logs)
    print(f"{resumed} attempts went on from a checkpoint; attempts: {attempts}")
    assert len(killed) == KILLS
    assert resumed >= RESUMED, "the study was over too soon"
    assert set(stormy) == set(calm)
    for name, cell in stormy.items():
        assert cell.state == "done", name
        ends = [row for row in cell.attempts if row.get("status") == "done"]
        began = [row for row in cell.attempts if row["event"] == "start"]
        assert len(ends) == 1 and cell.attempts[-1] == ends[0], name
        assert began[-1]["time"] <= cell.dir.summary.stat().st_mtime, name
        assert [row["attempt"] for row in began] == list(range(1, len(began) + 1))
        assert curve(cell) == curve(calm[name]), f"{name} took another course"
    summaries = {name: cell.summary for name, cell in stormy.items()}
    assert checkout.make(OUTPUT="stormy").status == 0
    after = checkout.cells("stormy")
    assert {name: cell.summary for name, cell in after.items()} == summaries
    assert {name: starts(cell) for name, cell in after.items()} == attempts


def _storm(checkout, kill_9, longest):
    """Start make and kill, in turn, a runner and a training process.

    Up to `longest` seconds lie between two kills. Returns the pids.
    """
    rng = random.Random()
    killed: set[int] = set()
    make = None
    while len(killed) < KILLS:
        if make is None or make.poll() is not None:
            make = checkout.start(OUTPUT="stormy")
        time.sleep(rng.uniform(0, longest))
        cells = checkout.cells("stormy")
        steps = {pid: n for cell in cells.values() for pid, n in _progress(cell)}
        done = [name for name, cell in cells.items() if cell.state == "done"]
        runner, trainers = checkout.runner(make), checkout.trainers()
        busy = [pid for pid in trainers if steps.get(pid, 0) > INTERVAL]
        if len(killed) % 2 and len(done) < 4:
            targets = busy if len(killed) < 2 * RESUMED else trainers
        else:
            targets = [runner] if runner else []
        if not targets or not kill_9(pid := rng.choice(targets)):
            continue
        killed.add(pid)
        where = f"after {steps.get(pid, 0)} steps"
        what = "the runner" if pid == runner else f"a training {where}"
        print(f"killed {what}; {len(trainers)} trained, {len(done)} of 4 done")
    make.communicate()
    return killed


def _progress(cell):
    """(pid, steps it took) of every attempt."""
    for row in cell.attempts:
        if row["event"] == "start":
            taken = [r for r in cell.train if r["attempt"] == row["attempt"]]
            yield row["pid"], len(taken)
