"""One cell: records, resume, stopping, failing."""

import json
import math
import os
import signal
import subprocess
import time

import pytest
import torch

from gpt2.training.cell import execute
from gpt2.training.trainer import Trainer
from gpt2.training.update import Update
from records.jsonl import last_per_step, read_rows
from records.lease import Lease


def rows(directory, kind):
    return last_per_step(read_rows(directory / "metrics.jsonl"), kind)


def curve(directory):
    """Everything of a run that must be reproducible to the bit."""
    trained = [
        (r["step"], r["loss"], r["lr"], r["grad_norm"])
        for r in rows(directory, "train")
    ]
    return trained, [(r["step"], r["loss"]) for r in rows(directory, "eval")]


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def events(directory):
    return [
        (r["event"], r["attempt"], r.get("status"))
        for r in read_rows(directory / "attempts.jsonl")
    ]


def test_a_run_records_what_it_did(cell, train):
    directory = cell(GPT2_GRADIENT_ACCUMULATION="2")
    done = train(directory)
    assert done.returncode == 0, done.stderr
    found = summary(directory)
    assert found["status"] == "done" and found["stopped_by"] == "tokens"
    assert (found["step"], found["tokens"]) == (20, 20 * 4 * 2 * 16)
    assert found["threads"] == torch.get_num_threads()
    assert found["device"]["kind"] == "cpu"
    trained, evaluated = curve(directory)
    assert [r[0] for r in trained] == list(range(20))
    assert [r[0] for r in evaluated] == [0, 10, 20]
    assert evaluated[-1][1] == found["final_eval"]["loss"] < evaluated[0][1] - 0.5
    assert events(directory) == [("start", 1, None), ("end", 1, "done")]
    assert os.listdir(directory / "checkpoint") == ["model.pt"]
    assert "resumed" not in done.stdout and "evaluation at step 20" in done.stdout


def test_the_first_losses_are_true_losses(cell, train):
    """Step 0 and the evaluation before it are those of a guess over 320 rows."""
    directory = cell(GPT2_MAX_ITERS="1")
    assert train(directory).returncode == 0
    uniform = math.log(320)
    assert rows(directory, "train")[0]["loss"] == pytest.approx(uniform, rel=0.03)
    assert rows(directory, "eval")[0]["loss"] == pytest.approx(uniform, rel=0.03)


def test_accumulation_changes_nothing_but_rounding(cell, train):
    whole, cut = cell("whole", BATCH_SIZE="8"), cell(
        "cut", BATCH_SIZE="2", EFFECTIVE_BATCH="8"
    )
    for directory in (whole, cut):
        assert train(directory).returncode == 0
    for a, b in zip(curve(whole)[0], curve(cut)[0]):
        assert a[1] == pytest.approx(b[1], abs=2e-5)
        assert a[3] == pytest.approx(b[3], rel=1e-3)


LONG = {
    "GPT2_DROPOUT": "0.1",
    "GPT2_MAX_ITERS": "400",
    "GPT2_EVAL_INTERVAL": "100",
    "CHECKPOINT_INTERVAL": "40",
}


@pytest.fixture(scope="module")
def undisturbed(make_cell, corpus, tmp_path_factory):
    directory = make_cell(tmp_path_factory.mktemp("runs") / "undisturbed", **LONG)
    assert execute(directory, corpus) == 0
    return directory


def wait_for_step(directory, step):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = directory / "metrics.jsonl"
        if path.exists() and any(
            row["kind"] == "train" and row["step"] >= step for row in read_rows(path)
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached")


def start(command, directory):
    return subprocess.Popen(
        command(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_same_bits(
    cell, command, train, undisturbed, number
):
    directory = cell("stopped", **LONG)
    process = start(command, directory)
    wait_for_step(directory, 60)
    process.send_signal(number)
    process.communicate(timeout=30)
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 128 + number)
    assert not (directory / "summary.json").exists()
    done = train(directory)
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout
    assert curve(directory) == curve(undisturbed)
    assert summary(directory)["model_sha256"] == summary(undisturbed)["model_sha256"]
    ends = [event for event in events(directory) if event[0] == "end"]
    assert ends == ([] if killed else [("end", 1, "stopped")]) + [("end", 2, "done")]


def test_an_unreadable_checkpoint_falls_back_and_says_so(
    cell, command, train, undisturbed
):
    directory = cell("torn", **LONG)
    process = start(command, directory)
    wait_for_step(directory, 100)
    process.kill()
    process.communicate(timeout=30)
    newest = sorted((directory / "checkpoint").glob("step-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    done = train(directory)
    assert done.returncode == 0, done.stderr
    assert f"{newest.name} cannot be read, left out" in done.stdout
    assert curve(directory) == curve(undisturbed)


def test_a_checkpoint_of_another_cell_is_refused(cell, train, command):
    directory = cell("foreign", **LONG)
    process = start(command, directory)
    wait_for_step(directory, 60)
    process.terminate()
    process.communicate(timeout=30)
    record = json.loads((directory / "run.json").read_text())
    record["cell"]["hash"] = "f" * 64
    (directory / "run.json").write_text(json.dumps(record))
    done = train(directory)
    assert done.returncode == 1
    assert "identity" in done.stderr and "Traceback" not in done.stderr
    failure = json.loads((directory / "failure.json").read_text())
    assert failure["status"] == "failed" and "identity" in failure["error"]


def test_a_diverging_run_is_recorded_as_such(cell, train):
    directory = cell("wild", LEARNING_RATE="1e30", GRAD_CLIP="0")
    done = train(directory)
    assert done.returncode == 1
    failure = json.loads((directory / "failure.json").read_text())
    assert failure["status"] == "diverged"
    assert "at step" in failure["error"]
    assert events(directory)[-1] == ("end", 1, "diverged")


def test_a_held_lease_is_exit_75(cell, train):
    directory = cell("held")
    with Lease(directory / "lease").acquire():
        done = train(directory)
    assert done.returncode == 75
    assert "held by" in done.stderr
    assert not (directory / "attempts.jsonl").exists()


def test_a_finished_cell_is_not_trained_again(cell, train):
    directory = cell(GPT2_MAX_ITERS="2")
    assert train(directory).returncode == 0
    before = (directory / "metrics.jsonl").read_bytes()
    done = train(directory)
    assert done.returncode == 0 and "done already" in done.stdout
    assert (directory / "metrics.jsonl").read_bytes() == before
    assert len(events(directory)) == 2


def test_a_summary_of_another_cell_is_refused(cell, train):
    directory = cell(GPT2_MAX_ITERS="2")
    assert train(directory).returncode == 0
    found = summary(directory)
    (directory / "summary.json").write_text(json.dumps({**found, "hash": "f" * 64}))
    done = train(directory)
    assert done.returncode == 1 and "belongs to the cell" in done.stderr


def test_a_time_budget_ends_the_run_and_the_cosine(cell, train):
    directory = cell(
        "timed",
        BUDGET_TIME="y",
        GPT2_MAX_TIME="1",
        GPT2_MAX_ITERS="1000000",
        GPT2_EVAL_INTERVAL="1000000",
        CHECKPOINT_INTERVAL="0",
        GPT2_WARMUP_STEPS="0",
    )
    assert train(directory).returncode == 0
    found = summary(directory)
    assert found["stopped_by"] == "time"
    assert 0.9 < found["train_time"] < 2.0
    last = rows(directory, "train")[-1]
    assert last["lr"] < 1.2e-4
    assert found["final_eval"]["step"] == found["step"] == last["step"] + 1


TIMED = {
    "BUDGET_TIME": "y",
    "GPT2_MAX_TIME": "2",
    "GPT2_MAX_ITERS": "1000000",
    "GPT2_EVAL_INTERVAL": "1000000",
    "CHECKPOINT_INTERVAL": "0",
}


@pytest.mark.parametrize("pruning", [{}, {"PRUNING_MAGNITUDE": "y"}])
def test_warm_up_is_no_part_of_a_time_budget(cell, train, monkeypatch, pruning):
    """However long a first step compiles, and whoever reads the clock."""
    plain, taken = Update.step, []

    def compiling(self):
        taken.append(time.sleep(0 if taken else 2.5))
        return plain(self)

    monkeypatch.setattr(Update, "step", compiling)
    directory = cell("warm", TIMING_WARMUP_STEPS="3", **TIMED, **pruning)
    assert train(directory).returncode == 0
    found = summary(directory)
    assert found["step"] > 5 and 1.9 < found["train_time"] < 3.0


def test_time_that_ends_before_the_last_pruning(cell, train, monkeypatch):
    """No step saw the whole budget spent; the sparsity is the configured one."""
    monkeypatch.setattr(Trainer, "_budget_spent", lambda self: 0.9 * self.total)
    pruning = {"PRUNING_MAGNITUDE": "y", "PRUNING_END": "1"}
    directory = cell("pruned", **TIMED, **pruning)
    assert train(directory).returncode == 0
    assert summary(directory)["sparsity"]["covered"] == pytest.approx(0.5, abs=1e-4)


def test_a_time_limit_stops_a_token_budget(cell, train):
    directory = cell("limited", GPT2_MAX_TIME="1", GPT2_MAX_ITERS="1000000")
    assert train(directory).returncode == 0
    found = summary(directory)
    assert found["stopped_by"] == "time" and found["step"] < 1000000


def test_all_steps_of_a_study_see_the_same_batches(small, corpus):
    import numpy as np

    from gpt2.data.loading.batch import Batch
    from gpt2.data.loading.corpus import Corpus

    base, wide = small(), small(MLP_DIM="80", MLA="y", INIT_SALT="aa")
    seen = []
    for settings, sizes in ((base, Batch(8, 1, 1)), (wide, Batch(2, 4, 1))):
        steps = Corpus(settings, corpus).batches(sizes, "cpu", 3, 6)
        rows = [
            torch.cat([micro.tokens_BT for micro in step]).numpy() for step in steps
        ]
        seen.append(np.stack(rows))
    assert seen[0].shape == (3, 8, 16)
    assert (seen[0] == seen[1]).all()
    other = next(Corpus(small(SEED="2"), corpus).batches(Batch(8, 1, 1), "cpu", 3, 4))
    assert not (other[0][0].numpy() == seen[0][0]).all()


@pytest.mark.slow
def test_compiled_training_equals_eager_closely(cell, train):
    plain, compiled = cell("plain"), cell("compiled", GPT2_COMPILE="y")
    for directory in (plain, compiled):
        done = train(directory)
        assert done.returncode == 0, done.stderr
    for a, b in zip(curve(plain)[0], curve(compiled)[0]):
        assert a[1] == pytest.approx(b[1], abs=1e-4)


def test_bf16_autocast_learns(cell, train):
    directory = cell("bf16", DTYPE_BF16="y")
    assert train(directory).returncode == 0
    _, evaluated = curve(directory)
    assert evaluated[-1][1] < evaluated[0][1] - 0.5


def test_a_gpu_that_is_not_there_is_an_error(cell, train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    directory = cell("gpu", DEVICE_CUDA="y")
    done = train(directory)
    assert done.returncode == 1
    assert "sees no GPU" in done.stderr and "DEVICE=cpu" in done.stderr
    assert events(directory) == [("start", 1, None), ("end", 1, "failed")]


def test_a_corpus_packed_anew_since_the_plan_is_refused(cell, train):
    directory = cell()
    record = json.loads((directory / "run.json").read_text())
    record["cell"]["identity"] = {"dataset": "0" * 64}
    (directory / "run.json").write_text(json.dumps(record))
    done = train(directory)
    assert done.returncode == 1 and "planned for dataset 000" in done.stderr


def test_half_written_checkpoints_are_swept(cell, train):
    directory = cell(GPT2_MAX_ITERS="2")
    (directory / "checkpoint").mkdir()
    half = directory / "checkpoint" / ".step-000000001.pt.ab12cd34.tmp"
    half.write_bytes(b"half")
    assert train(directory).returncode == 0
    assert not half.exists()


@pytest.mark.slow
def test_the_second_seed_finds_what_the_first_compiled(cell, command, tmp_path):
    """Two real cells, compiled, with one folder between them."""
    compiled = tmp_path / "inductor"
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(compiled)}
    environment.pop("TORCHINDUCTOR_FORCE_DISABLE_CACHES", None)
    taken = []
    for seed in ("1", "2"):
        directory = cell(f"seed-{seed}", GPT2_COMPILE="y", SEED=seed)
        subprocess.run(command(directory), env=environment, check=True)
        summary = json.loads((directory / "summary.json").read_text())
        taken.append(summary["time_to_first_step"])
        start, _ = read_rows(directory / "attempts.jsonl")
        assert start["caches"]["TORCHINDUCTOR_CACHE_DIR"] == str(compiled)
    assert taken[1] < 0.6 * taken[0], taken


@pytest.mark.parametrize(
    "symbols, layers",
    [
        ({"MIXER_LINEAR": "y"}, "layers: linear"),
        ({"MIXER_GDN": "y"}, "layers: gdn"),
        ({"MIXER_LAYERS": "linear attention"}, "layers: 1 linear, 1 attention"),
    ],
)
def test_a_cell_of_other_mixers(make_cell, tmp_path, train, symbols, layers):
    """Trained, evaluated, recorded, with the heads of the layers that have some."""
    some = "attention" in layers
    stats = {"LOG_ATTENTION_STATS": "y"} if some else {}
    directory = make_cell(tmp_path / "run", GPT2_LAYERS="2", **symbols, **stats)
    done = train(directory)
    assert done.returncode == 0, done.stderr
    assert f"{layers}, recurrences by reference" in done.stdout
    facts = json.loads((directory / "summary.json").read_text())["facts"]
    assert facts["attention_impl"] == ("sdpa" if some else "none")
    assert facts["recurrence_impl"] == "reference"
    assert facts["mixers"] == layers.removeprefix("layers: ")
    assert (facts["attn_mlp_ratio"] is None) == some
