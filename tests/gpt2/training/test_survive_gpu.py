"""The watch for divergence, the monitor, out of memory and divergence on a real GPU."""

import json
import time

import pytest
import torch

from gpt2.training import gpu_monitor
from gpt2.training import trainer
from gpt2.training.divergence import DELAY, Diverged, DivergenceWatch, generators
from gpt2.training.gpu_monitor import Monitor
from records.jsonl import read_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def test_the_watch_finds_the_step_and_does_not_wait():
    """Steps of some milliseconds are queued; only those DELAY back are awaited."""
    watch, a = DivergenceWatch("cuda"), torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    began, queued = time.perf_counter(), 0.0
    with pytest.raises(Diverged, match="training loss nan at step 20") as found:
        for step in range(20 + 2 * DELAY):
            for _ in range(8):
                b = a @ a
            value = b.flatten()[0] * 0 + (float("nan") if step == 20 else 2.0)
            states = generators("cuda")
            watch.watch(step, value, torch.ones((), device="cuda"), states)
            if step == DELAY - 1:
                queued = time.perf_counter() - began
    torch.cuda.synchronize()
    whole = time.perf_counter() - began
    print(f"first {DELAY} steps queued in {1e3 * queued:.1f} of {1e3 * whole:.1f} ms")
    assert found.value.step == 20 and step <= 20 + DELAY


def test_what_the_watch_costs_per_step():
    """Host time beside a step; a step of 124M parameters takes over 50 ms."""
    watch, one = DivergenceWatch("cuda"), torch.ones((), device="cuda")
    for step in range(200):
        if step == 100:
            torch.cuda.synchronize()
            began = time.perf_counter()
        watch.watch(step, one, one, generators("cuda"))
    watch.check_all()
    cost = (time.perf_counter() - began) / 100
    print(f"{1e6 * cost:.0f} us a step")
    assert cost < 1e-3


def test_the_monitor_samples_the_gpu(tmp_path):
    said: list[str] = []
    a = torch.randn(8192, 8192, device="cuda")
    path = tmp_path / "gpu.jsonl"
    with Monitor(
        path, 1, lambda: gpu_monitor.reader(1, said.append), lambda: 0, said.append, 2.0
    ) as monitor:
        deadline = time.monotonic() + 60
        while monitor.samples < 6 and time.monotonic() < deadline:
            a = (a @ a).tanh()
            torch.cuda.synchronize()
        spent = time.monotonic() - monitor._began
        share = monitor.cpu_seconds / spent
    rows = read_rows(path)
    print(said, json.dumps(rows[-1]))
    assert len(rows) >= 6
    last = rows[-1]
    assert last["gpu/0/compute_util"] > 50 and last["gpu/0/power_w"] > 50
    assert last["gpu/memory_used_avg_gb"] < last["gpu/memory_total_avg_gb"]
    assert 15 < last["gpu/temperature_avg_c"] < 110 and last["gpu/clock_avg_mhz"] > 100
    if not any("nvidia-smi" in line for line in said):
        assert share < 0.005, f"{100 * share:.2f} % of a core"


def test_out_of_memory(cell, train, monkeypatch):
    def large(self, batches):
        torch.empty(2**44, device="cuda")

    monkeypatch.setattr(trainer.Trainer, "_step", large)
    directory = cell(DEVICE_CUDA="y")
    assert train(directory).returncode == 1
    failure = json.loads((directory / "failure.json").read_text())
    assert failure["error"].startswith("OutOfMemory: out of memory after step 0")


def test_divergence_between_two_logged_steps(cell, train):
    directory = cell(
        DEVICE_CUDA="y",
        LEARNING_RATE="1e30",
        GRAD_CLIP="0",
        GPT2_WARMUP_STEPS="0",
        GPT2_MAX_ITERS="60",
        LOG_INTERVAL="1000",
        GPT2_EVAL_INTERVAL="1000",
        CHECKPOINT_INTERVAL="1000",
    )
    assert train(directory).returncode == 1
    report = json.loads((directory / "diverged" / "report.json").read_text())
    print(report)
    kept = torch.load(directory / "diverged" / report["batch"])
    assert kept["step"] == report["step"] < 10 and "rng_cuda" in kept
    assert (directory / "gpu.jsonl").exists()
