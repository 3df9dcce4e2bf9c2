"""A trained run records every row of the fairness ledger, each as it was."""

import hashlib
import platform
import socket
from types import SimpleNamespace

import numpy as np
import torch

from gpt2.training import device
from kconf import config_py
from matrix.results import fairness
from matrix.results.study import load
from matrix.results.whole_run import identity_hash
from records import atomic
from records.manifest import read_manifest
from records.provenance import NUMERIC, cpu_model, triton_version

SYMBOLS = {"GPT2_MAX_ITERS": "3", "GPT2_EVAL_INTERVAL": "2", "GPT2_EVAL_WINDOWS": "5"}
SYMBOLS |= {
    "SEED": "5",
    "BATCH_SIZE": "2",
    "EFFECTIVE_BATCH": "6",
    "GPT2_MAX_TIME": "500",
}


def board(monkeypatch, hip: str | None):
    """A GPU that is not there."""
    found = SimpleNamespace(name="NVIDIA H200 NVL", total_memory=7)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {3: found}.get)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return device.describe("cuda")


def test_what_a_run_leaves_for_the_ledger(tmp_path, cell, train, corpus, monkeypatch):
    """By hand: 6 sequences of 16 tokens a step, 3 steps, 5 windows every 2 steps."""
    for name in NUMERIC:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    manifest, threads = read_manifest(corpus), torch.get_num_threads()
    place = tmp_path / "demo/07-arm/seed-5"
    place.mkdir(parents=True)
    directory = cell("demo/07-arm/seed-5/01234567", **SYMBOLS)
    config = config_py.read(directory / "config.py").identity
    identity = {"config": config, "code": "ab" * 32, "dataset": manifest.sha256}
    identity |= {"threads": threads}
    record = {"study": "demo", "step": "07-arm", "seed": 5}
    record |= {"hash": identity_hash(identity), "identity": identity}
    directory = directory.rename(place / record["hash"][:8])
    provenance = {"time": 0.0, "cpu": cpu_model()}
    whole = {"schema": 1, "cell": record, "data_dir": str(corpus)}
    atomic.write_json(directory / "run.json", {**whole, "provenance": provenance})
    done = train(directory)
    assert done.returncode == 0, done.stderr
    study = load(tmp_path / "demo")
    run = study.counted["07-arm", 5]
    assert {title: run.value(name) for title, name in fairness.MUST_MATCH} == {
        "code hash": "ab" * 32,
        "dataset": manifest.sha256,
        "budget": "tokens",
        "end of training": "tokens",
        "tokens per step": 6 * 16,
        "effective batch": 6,
        "micro-batch": 2,
        "context": 16,
        "documents apart": False,
        "max_iters": 3,
        "time limit": 500,
        "tokens trained": 3 * 6 * 16,
        "optimizer steps": 3,
        "evaluation windows": 5,
        "evaluation interval": 2,
        "evaluation text": windows(corpus, manifest),
        "last evaluation's text": windows(corpus, manifest),
        "dtype": "fp32",
        "dtype of the parameters": "fp32",
        "loss computation": "plain",
        "update": "torch",
        "compile": False,
        "device": device._cpu_name(),
        "runtime": None,
        "driver": None,
        "processes": 1,
        "processor": cpu_model(),
        "threads": threads,
        "torch": torch.__version__,
        "triton": triton_version(),
        "environment": {"ATEN_CPU_CAPABILITY": "default"},
        "python": platform.python_version(),
    }
    assert run.software == {
        "torch": (torch.__version__,),
        "python": (platform.python_version(),),
        "device": (device._cpu_name(),),
        "driver": (),
        "environment": ("ATEN_CPU_CAPABILITY=default",),
    }
    assert [(s["host"], s["devices"]) for s in run.sessions] == [
        (socket.gethostname(), frozenset({"cpu"}))
    ]
    assert fairness.differences([run]) == fairness.resumed_elsewhere([run]) == []
    assert [row["step"] for row in run.evals] == [0, 2, 3]


def windows(corpus, manifest) -> str:
    """sha256 of five windows of 17 tokens, spread evenly over the validation text."""
    (name,) = manifest.splits["val"].files
    tokens_N = np.fromfile(corpus / name, manifest.dtype, offset=192).astype(np.int64)
    room = (len(tokens_N) - 1) // 16
    starts = [16 * (k * room // 5) for k in range(5)]
    rows = np.stack([tokens_N[start : start + 17] for start in starts])
    return hashlib.sha256(rows.tobytes()).hexdigest()


def test_what_a_gpu_is_called(monkeypatch):
    """Its name, and what drives it, under both vendors."""
    info = board(monkeypatch, None)
    assert (info.kind, info.name, info.driver) == (
        "cuda",
        "NVIDIA H200 NVL",
        "CUDA 13.0",
    )
    assert info.total_memory == 7 and info.peak_flops == device.PEAK_BF16["H200"]
    assert board(monkeypatch, "7.0").driver == "HIP 7.0"
    assert device.describe("cpu").as_dict()["driver"] is None
