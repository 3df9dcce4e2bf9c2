"""Training on the fly: kill -9 in the middle, resume, the same curve."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from gpt2.data.loading import on_the_fly
from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import run_settings
from gpt2.training.cell import execute
from kconf import config_py
from records import atomic
from records.jsonl import last_per_step, read_rows
from tests.conftest import ROOT, SMALL
from tests.gpt2.data.loading.test_on_the_fly import Beside
from tests.gpt2.data.sources.test_hub import words, write_folder

STEPS = 400


@pytest.fixture
def unpacked(tmp_path, tree, resolve):
    """cell, dataset = unpacked(name): a run directory that reads on the fly."""
    write_folder(tmp_path / "hub", words(3000))
    symbols = {
        "DATASET_FINEWEBEDU": "y",
        "HF_PATH": str(tmp_path / "hub"),
        "SHUFFLE_BUFFER": "64",
        "VAL_FRACTION": "0.1",
        "DATA_ON_THE_FLY": "y",
        "DATA_VAL_TOKENS": "1024",
        "DATA_REPORT_DOCUMENTS": "50",
        "GPT2_MAX_ITERS": str(STEPS),
        "GPT2_EVAL_INTERVAL": "100",
        "CHECKPOINT_INTERVAL": "20",
    }
    values = resolve(SMALL, symbols)
    packed = tmp_path / "live"
    prepare(run_settings(values).data, packed, say=lambda line: None)

    def make(name):
        directory = tmp_path / name
        directory.mkdir()
        config_py.write(directory / "config.py", values, tree.operational)
        identity = {"dataset": json.loads((packed / "dataset.json").read_text())}
        cell = {
            "hash": "0" * 64,
            "identity": {"dataset": identity["dataset"]["sha256"]},
        }
        atomic.write_json(directory / "run.json", {"schema": 1, "cell": cell})
        return directory, packed

    return make


def losses(directory):
    rows = last_per_step(read_rows(directory / "metrics.jsonl"), "train")
    return [row["loss"] for row in rows]


def test_killed_and_resumed_to_the_same_curve(unpacked, monkeypatch):
    killed, packed = unpacked("killed")
    entry = str(ROOT / "gpt2" / "train_ra_mla.py")
    argv = ["--run-dir", str(killed), "--data-dir", str(packed)]
    process = subprocess.Popen([sys.executable, entry, *argv], env=dict(os.environ))
    deadline = time.monotonic() + 300
    while not list((killed / "checkpoint").glob("step-*.pt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    monkeypatch.setattr(
        on_the_fly, "subprocess", SimpleNamespace(Popen=Beside, PIPE=-1)
    )
    assert execute(killed, packed) == 0
    starts = [r for r in read_rows(killed / "metrics.jsonl") if r["kind"] == "facts"]
    assert len(starts) == 2
    whole, _ = unpacked("whole")
    assert execute(whole, packed) == 0
    assert losses(killed) == losses(whole) and len(losses(whole)) == STEPS
    hashes = [
        json.loads((each / "summary.json").read_text())["model_sha256"]
        for each in (killed, whole)
    ]
    assert hashes[0] == hashes[1]
