"""A rank that is stopped, killed, late or wrong: all end, and the record says why."""

import json
import os
import signal

import pytest

from records.jsonl import read_rows
from records.lease import Lease
from tests.gpt2.ranks import (
    ENTRY,
    TRAIN_CELLS,
    finish,
    launch,
    pids,
    rows,
    wait_for_step,
)

LONG = {
    "GPT2_DROPOUT": "0.1",
    "GPT2_MAX_ITERS": "400",
    "GPT2_EVAL_INTERVAL": "100",
    "CHECKPOINT_INTERVAL": "20",
    "EFFECTIVE_BATCH": "4",
    "BATCH_SIZE": "2",
    "GPUS_PER_RUN": "2",
    "PRUNING_MAGNITUDE": "y",
    "PRUNING_FREQUENCY": "5",
}


@pytest.fixture
def start(corpus):
    """process = start(directory): the cell as the runner starts it, with two ranks."""

    def run(directory):
        return launch(2, ENTRY, "--run-dir", directory, "--data-dir", corpus)

    return run


@pytest.fixture(scope="module")
def undisturbed(make_cell, corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed") / "cell"
    make_cell(directory, **LONG)
    process = launch(2, TRAIN_CELLS, corpus, directory)
    output = finish(process)
    assert process.returncode == 0, output
    return directory


def curve(directory):
    trained = [
        (r["step"], r["loss"], r["lr"], r["grad_norm"], r["sparsity"])
        for r in rows(directory, "train")
    ]
    return trained, [(r["step"], r["loss"]) for r in rows(directory, "eval")]


def weights_of(directory):
    return json.loads((directory / "summary.json").read_text())["model_sha256"]


def ends(directory):
    found = read_rows(directory / "attempts.jsonl")
    return [row["status"] for row in found if row["event"] == "end"]


def resume(start, directory, undisturbed):
    """The next attempt, which must come to the same end."""
    process = start(directory)
    output = finish(process)
    assert process.returncode == 0, output
    assert "resumed at step" in output
    assert curve(directory) == curve(undisturbed)
    assert weights_of(directory) == weights_of(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["launcher", 0, 1])
def test_a_stop_of_any_rank_is_one_of_all(cell, start, undisturbed, whom):
    """All agree on the step, write one checkpoint, exit as stopped, and resume."""
    directory = cell("stopped", **LONG)
    process = start(directory)
    wait_for_step(directory, 30, process)
    target = process.pid if whom == "launcher" else pids(process)[whom]
    os.kill(target, signal.SIGTERM)
    output = finish(process)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert output.count("stopped by SIGTERM after step") == 1
    assert ends(directory) == ["stopped"]
    (end,) = [r for r in read_rows(directory / "attempts.jsonl") if r["event"] == "end"]
    last = sorted((directory / "checkpoint").glob("step-*.pt"))[-1]
    assert last.name == f"step-{end['step']:09d}.pt"
    resume(start, directory, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("whom", [0, 1])
def test_a_killed_rank_ends_the_others(cell, start, undisturbed, whom):
    directory = cell("killed", **LONG)
    process = start(directory)
    wait_for_step(directory, 50, process)
    both = pids(process)
    os.kill(both[whom], signal.SIGKILL)
    output = finish(process)
    assert process.returncode not in (0, 75, 130, 143), output
    assert not any(os.path.exists(f"/proc/{pid}") for pid in both)
    if whom == 0:
        assert ends(directory) == []
    else:
        assert ends(directory) == ["failed"]
        failure = json.loads((directory / "failure.json").read_text())
        assert "rank 0 of 2 lost another one" in failure["error"]
    resume(start, directory, undisturbed)


def faulty(directory, corpus, fault):
    """How a cell of two ranks ends when rank 1 does this in step 12."""
    process = launch(2, TRAIN_CELLS, "--fault", fault, corpus, directory)
    output = finish(process)
    assert process.returncode == 1, output
    failure = json.loads((directory / "failure.json").read_text())
    assert ends(directory) == [failure["status"]]
    return failure


def test_what_ended_a_rank_is_in_the_record_of_rank_0(cell, corpus):
    failure = faulty(cell(**LONG), corpus, "raise")
    assert failure["status"] == "failed"
    assert failure["error"].startswith("RanksError: rank 0 of 2 lost another one: ")
    assert failure["error"].endswith("LookupError: planted in rank 1")


@pytest.mark.slow
def test_weights_that_differ_end_the_run(cell, corpus):
    failure = faulty(cell(**LONG), corpus, "weight")
    assert failure["status"] == "failed"
    assert "h.0.norm1.weight of rank 1 differs" in failure["error"]
    assert "after step 100" in failure["error"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_is_that_of_all(cell, corpus):
    failure = faulty(cell(**LONG), corpus, "nan")
    assert failure["status"] == "diverged" and "at step 12" in failure["error"]


@pytest.mark.slow
def test_a_late_rank_is_not_waited_for_without_end(cell, corpus):
    failure = faulty(cell(**LONG), corpus, "hang")
    assert "waited 20 s for the others (CONFIG_RANK_TIMEOUT)" in failure["error"]


@pytest.mark.slow
def test_a_held_cell_is_exit_75_of_all(cell, start):
    directory = cell(**LONG)
    with Lease(directory / "lease").acquire():
        process = start(directory)
        output = finish(process)
    assert process.returncode == 75, output
    assert output.count("held by") == 1
    assert not (directory / "attempts.jsonl").exists()


def test_another_number_of_processes_is_refused(cell, corpus, train):
    directory = cell(**LONG)
    done = train(directory)
    assert done.returncode == 1
    assert "CONFIG_GPUS_PER_RUN=2: but the cell was started as 1" in done.stderr


@pytest.mark.slow
def test_usr1_to_the_launcher_is_one_to_every_rank(cell, start, undisturbed):
    """As Slurm and people send it: the stacks of all, and the run goes on."""
    directory = cell("asked", **LONG)
    process = start(directory)
    wait_for_step(directory, 20, process)
    os.kill(pids(process)[1], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGUSR1)
    output = finish(process)
    assert process.returncode == 0, output
    stacks = (directory / "stacks.txt").read_text()
    assert stacks.count("train_ra_mla.py") >= 2
    assert curve(directory) == curve(undisturbed)
