"""What can happen to a run: each time the records stay whole and say the truth."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from gpt2.data.loading.batch import Batch
from gpt2.data.loading.corpus import Corpus
from gpt2.data.loading.loader import TrainWindows
from gpt2.distributed.ddp import DataParallel
from gpt2.model.gpt import GPT
from gpt2.settings.run import run_settings
from gpt2.training import checkpoint, stop_signals, trainer
from gpt2.training.checkpoint import Progress
from gpt2.training.device import DeviceInfo
from gpt2.training.device_errors import DeviceLost, OutOfMemory, explained
from gpt2.training.divergence import DELAY, Diverged, DivergenceWatch
from kconf import config_py
from matrix.launch import local
from records.cell import read_cell, read_status
from records.jsonl import read_rows
from records.layout import CellDir
from tests.conftest import ROOT

WILD = {
    "LEARNING_RATE": "1e30",
    "GRAD_CLIP": "0",
    "GPT2_WARMUP_STEPS": "0",
    "LOG_INTERVAL": "1000",
    "GPT2_EVAL_INTERVAL": "1000",
    "CHECKPOINT_INTERVAL": "1",
    "GPT2_DROPOUT": "0.1",
}


def state(directory: Path) -> str:
    return read_status(CellDir(directory)).state


def failure(directory: Path) -> dict:
    return json.loads((directory / "failure.json").read_text())


def test_a_diverged_run_names_the_step_and_keeps_what_it_saw(cell, train, corpus):
    """Between two logged losses, and the step can be taken again."""
    directory = cell("wild", **WILD)
    done = train(directory)
    assert done.returncode == 1
    assert state(directory) == "diverged"
    report = json.loads((directory / "diverged" / "report.json").read_text())
    step = report["step"]
    assert 0 < step < 19 and failure(directory)["error"] == report["error"]
    assert report["error"].endswith(f"at step {step}")
    assert report["checkpoint"] == f"step-{step:09d}.pt"

    settings = run_settings(config_py.read(directory / "config.py").values)
    before = torch.load(directory / "diverged" / report["checkpoint"])
    kept = torch.load(directory / "diverged" / report["batch"])
    batches = next(Corpus(settings, corpus).batches(Batch(4, 1, 1), "cpu", step, 99))
    for saved, own in zip(kept["batches"], batches, strict=True):
        assert saved[2] is own[2] is None
        assert all(torch.equal(a, b) for a, b in zip(saved[:2], own[:2]))
    assert torch.equal(
        kept["rng"], before["rng"][0]["cpu"]
    ), "not the generators before it"
    model = GPT(settings.model)
    model.load_state_dict(before["model"])
    assert all(p.isfinite().all() for p in model.parameters())
    torch.set_rng_state(kept["rng"])
    loss = model.train()(*kept["batches"][0])
    loss.backward()
    norms = [p.grad.square().sum() for p in model.parameters()]
    assert not torch.stack([loss, *norms]).isfinite().all()


def test_a_gradient_that_is_not_finite_is_found_by_itself(cell, train, monkeypatch):
    """The losses are all finite: what would be left without it is a ruined weight."""
    take = trainer.Trainer._step

    def step(self, batches):
        weight = self.run.distribution.model.h[0].norm1.weight
        hooks = []
        if self.progress.step == 7:
            hooks = [weight.register_hook(lambda g: torch.full_like(g, float("inf")))]
        take(self, batches)
        for hook in hooks:
            hook.remove()

    monkeypatch.setattr(trainer.Trainer, "_step", step)
    directory = cell("wild", CHECKPOINT_INTERVAL="1", LOG_INTERVAL="1000")
    assert train(directory).returncode == 1
    assert state(directory) == "diverged"
    assert "gradient norm inf at step 7" in failure(directory)["error"]
    report = json.loads((directory / "diverged" / "report.json").read_text())
    assert (report["step"], report["batch"]) == (7, "batch-step-000000007.pt")
    before = torch.load(directory / "diverged" / report["checkpoint"])
    assert before["progress"]["step"] == 7
    assert all(value.isfinite().all() for value in before["model"].values())


def test_a_run_that_diverged_is_tried_again_when_started(cell, train):
    directory = cell("wild", **WILD)
    assert train(directory).returncode == train(directory).returncode == 1
    ends = [r for r in read_rows(directory / "attempts.jsonl") if r["event"] == "end"]
    assert [row["status"] for row in ends] == ["diverged", "diverged"]
    assert ends[0]["error"] == ends[1]["error"]


class Arrival:
    """A CUDA event that has arrived when the test says so."""

    arrived = False

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return Arrival.arrived

    def synchronize(self) -> None:
        Arrival.waits += 1

    waits = 0


@pytest.fixture
def gpu_watch(monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *n, pin_memory: empty(*n))
    monkeypatch.setattr(torch.cuda, "Event", Arrival)
    Arrival.arrived, Arrival.waits = False, 0
    return DivergenceWatch("cuda")


def test_on_a_gpu_the_step_is_found_late_and_is_the_right_one(gpu_watch):
    for step in range(30, 30 + DELAY + 6):
        loss = torch.tensor(float("inf") if step >= 35 else float(step))
        norm = torch.tensor(1.0)
        states = {"rng": torch.tensor([step])}
        if step < 35 + DELAY:
            gpu_watch.watch(step, loss, norm, states)
            known = step - DELAY
            assert gpu_watch.loss == (known if known >= 30 else None)
            continue
        with pytest.raises(Diverged, match="loss inf at step 35") as found:
            gpu_watch.watch(step, loss, norm, states)
        assert found.value.step == 35 and found.value.generators["rng"].item() == 35
        return


def test_on_a_gpu_nothing_is_waited_for_in_the_meantime(gpu_watch):
    for step in range(DELAY):
        gpu_watch.watch(step, torch.tensor(1.0), torch.tensor(1.0), {})
    assert Arrival.waits == 0 and gpu_watch.loss is None
    Arrival.arrived = True
    gpu_watch.watch(DELAY, torch.tensor(2.0), torch.tensor(1.0), {})
    assert gpu_watch.loss == 2.0


def test_on_a_gpu_a_checkpoint_settles_first(gpu_watch):
    gpu_watch.watch(0, torch.tensor(1.0), torch.tensor(float("nan")), {})
    with pytest.raises(Diverged, match="gradient norm nan at step 0"):
        gpu_watch.check_all()


def test_out_of_memory_is_one_message(cell, train, monkeypatch):
    def full(self, batches):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nmore")

    monkeypatch.setattr(trainer.Trainer, "_step", full)
    directory = cell("large", BATCH_SIZE="4", EFFECTIVE_BATCH="8")
    done = train(directory)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = failure(directory)["error"]
    assert "micro-batches of 4: `make check` estimates" in said
    assert "CONFIG_BATCH_SIZE=2 with CONFIG_EFFECTIVE_BATCH=8" in said
    assert "Tried 2 GiB" in said and "nothing was changed" in said
    assert state(directory) == "failed"


def test_the_cpu_allocator_is_understood_too(cell, train, monkeypatch):
    def full(self, batches):
        torch.empty(2**60)

    monkeypatch.setattr(trainer.Trainer, "_step", full)
    directory = cell("large")
    assert train(directory).returncode == 1
    assert "out of memory after step 0" in failure(directory)["error"]


def test_a_lost_gpu_leaves_the_checkpoint(cell, train, monkeypatch):
    take = trainer.Trainer._step

    def lost(self, batches):
        if self.progress.step == 12:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        take(self, batches)

    directory, calm = cell("lost"), cell("calm")
    assert train(calm).returncode == 0
    monkeypatch.setattr(trainer.Trainer, "_step", lost)
    done = train(directory)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "failed after step 12: CUDA error: unspec" in failure(directory)["error"]
    assert state(directory) == "failed"
    monkeypatch.undo()
    assert train(directory).returncode == 0
    losses = [[r["loss"] for r in read_cell(d).train] for d in (directory, calm)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "error, kind, wanted, advised",
    [
        (
            torch.AcceleratorError("CUDA error: unknown error"),
            "cuda",
            DeviceLost,
            "reset",
        ),
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered"),
            "cuda",
            torch.AcceleratorError,
            "",
        ),
        (torch.OutOfMemoryError("no"), "cuda", OutOfMemory, "CONFIG_BATCH_SIZE=2"),
        (MemoryError(), "cuda", OutOfMemory, "the host, not the GPU"),
        (RuntimeError("can't allocate memory"), "cuda", OutOfMemory, "CONFIG_JOBS"),
        (MemoryError(), "cpu", OutOfMemory, "CONFIG_BATCH_SIZE=2"),
        (RuntimeError("shapes differ"), "cuda", RuntimeError, ""),
    ],
)
def test_the_advice_is_of_the_cause(small, error, kind, wanted, advised):
    info = DeviceInfo(kind, "H9", 2**30, "1", None)
    with pytest.raises(wanted) as found:
        with explained(small(), Batch(4, 1, 1), info, Progress(7)):
            raise error
    assert type(found.value) is wanted and advised in str(found.value)
    if wanted is type(error):
        assert found.value is error


def test_a_clock_that_goes_backwards(cell, train, monkeypatch):
    clock, jump = time.time, [0.0]
    take = trainer.Trainer._step

    def step(self, batches):
        jump[0] -= 3600
        take(self, batches)

    directory = cell()
    monkeypatch.setattr(time, "time", lambda: clock() + jump[0])
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    assert train(directory).returncode == 0
    found = read_cell(directory)
    assert found.state == "done" and found.step == 20
    assert 0 < found.summary["wall_time"] <= found.summary["total_time_all_attempts"]
    assert found.attempts[-1]["time"] < found.attempts[0]["time"]
    assert found.attempts[-1]["seconds"] > 0


def test_a_loader_that_hangs_ends_the_run(cell, train, monkeypatch):
    rows = TrainWindows.rows

    def hang(self, indices):
        if indices[0] >= 4 * 7:
            time.sleep(3600)
        return rows(self, indices)

    monkeypatch.setattr(TrainWindows, "rows", hang)
    directory = cell("hung", DATA_TIMEOUT="1")
    done = train(directory)
    assert done.returncode == 1
    assert "batch 7 did not come within 1 s" in failure(directory)["error"]


def test_a_checkpoint_damaged_anywhere_is_left_out(cell, train, tmp_path):
    """Bytes flipped, parts missing: never another exception, never other weights."""
    directory = cell(KEEP_CHECKPOINTS="y")
    assert train(directory).returncode == 0
    whole = (directory / "checkpoint" / "step-000000020.pt").read_bytes()
    older = (directory / "checkpoint" / "step-000000015.pt").read_bytes()
    settings = run_settings(config_py.read(directory / "config.py").values)
    clean = torch.load(directory / "checkpoint" / "step-000000020.pt")["model"]
    random = torch.Generator().manual_seed(5)
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "step-000000015.pt").write_bytes(older)
    fell = 0
    for turn in range(60):
        places = torch.randint(len(whole), (1 + turn % 3,), generator=random).tolist()
        damaged = bytearray(whole)
        for place in places:
            damaged[place] ^= 0x41
        if turn % 4 == 0:
            damaged = damaged[: places[0]]
        (folder / "step-000000020.pt").write_bytes(damaged)
        shared = DataParallel(GPT(settings.model))
        optimizer = shared.optimizer(settings.optim)
        progress, said = checkpoint.resume(folder, "0" * 64, shared, optimizer, None)
        assert progress.step == (15 if said else 20), (turn, places)
        fell += progress.step == 15
        if progress.step == 20:
            for name, value in shared.model.state_dict().items():
                assert torch.equal(value, clean[name]), (turn, places, name)
    assert fell > 40


HANG = """
    import sys, time
    from pathlib import Path
    from gpt2.training import cell, stop_signals, trainer
    stop_signals.Deadline.__init__.__defaults__ = (0.5,)
    take = trainer.Trainer._step
    def hang(self, batches):
        if self.progress.step == 7:
            print("hangs", flush=True)
            while True:
                time.sleep(3600)
        take(self, batches)
    trainer.Trainer._step = hang
    sys.exit(cell.execute(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_there_is_time_to_say_so_before_the_runner_kills():
    """And before Slurm does, whose KillWait is 30 seconds."""
    assert stop_signals.SECONDS <= local.GRACE - 5 == 25


def test_a_step_that_never_ends_is_left_in_time(cell, corpus, train):
    directory = cell()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HANG), str(directory), str(corpus)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for line in process.stdout:
        if line == "hangs\n":
            break
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == 143, output
    assert "SIGTERM: no step ended in time" in output
    assert state(directory) == "interrupted"
    last = read_rows(directory / "attempts.jsonl")[-1]
    assert last["status"] == "stopped" and last["step"] == 0
    assert train(directory).returncode == 0


def test_a_long_evaluation_stops_with_a_checkpoint(cell, train, monkeypatch):
    between, calls = trainer.Trainer._between_windows, []

    def stop(self):
        calls.append(self.progress.step)
        if calls.count(10) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            while not self.run.stop_requested():
                time.sleep(0.01)
        between(self)

    directory, calm = cell("stopped", CHECKPOINT_INTERVAL="0"), cell("calm")
    assert train(calm).returncode == 0
    monkeypatch.setattr(trainer.Trainer, "_between_windows", stop)
    assert train(directory).returncode == 143
    assert os.listdir(directory / "checkpoint") == ["step-000000010.pt"]
    monkeypatch.undo()
    assert train(directory).returncode == 0
    found = [read_cell(d) for d in (directory, calm)]
    assert found[0].summary["model_sha256"] == found[1].summary["model_sha256"]
    assert [r["loss"] for r in found[0].evals] == [r["loss"] for r in found[1].evals]


def test_usr1_writes_the_stacks_and_the_run_goes_on(cell, command):
    directory = cell(GPT2_MAX_ITERS="4000", CHECKPOINT_INTERVAL="0")
    process = subprocess.Popen(
        command(directory),
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    stacks = directory / "stacks.txt"
    deadline = time.monotonic() + 120
    while not (directory / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    while "gpt2/training/cell.py" not in stacks.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    assert "Thread 0x" in stacks.read_text()
    before = len(read_rows(directory / "metrics.jsonl"))
    while len(read_rows(directory / "metrics.jsonl")) <= before:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_the_heartbeat_follows_the_loop(cell, train):
    directory = cell()
    assert train(directory).returncode == 0
    rows = read_rows(directory / "heartbeat_rank0.jsonl")
    phases = [row["phase"] for row in rows]
    assert phases[0] == "starting" and {"evaluating", "training", "saving"} <= {*phases}
    assert {row["pid"] for row in rows} == {os.getpid()}
    trained = [row for row in rows if row["phase"] == "training"]
    assert 2 < trained[-1]["loss"] < 6 and trained[-1]["memory_bytes"] > 2**20
