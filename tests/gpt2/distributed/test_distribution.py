"""Who asks how the ranks share a model, and what the estimate says of a rank."""

import copy
import json
import math
from contextlib import contextmanager

import pytest
import torch

from gpt2.distributed import build
from gpt2.distributed.ddp import DataParallel
from gpt2.distributed.distribution import TrainingBytes
from gpt2.model.gpt import GPT
from gpt2.model.initial import weights_sha256
from gpt2.settings.run import run_settings
from gpt2.training import memory
from gpt2.training.memory import memory_estimate
from kconf import config_py
from tests.gpt2.ranks import rows


class Elsewhere(DataParallel):
    """The whole model is another one than this rank trains: all of it is 0."""

    @contextmanager
    def whole(self):
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        yield model

    def state(self, optimizer):
        with self.whole() as model:
            return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    @staticmethod
    def bytes_per_rank(held, world):
        return (held.weights + held.gradients + held.optimizer + held.pruning) // world


def test_records_are_of_the_whole_model(cell, train, monkeypatch):
    """Evaluations, rows about heads, hash, weights and checkpoints: none of them is of
    what the rank itself trains.
    """
    monkeypatch.setattr(build, "chosen", lambda settings: Elsewhere)
    directory = cell(LOG_ATTENTION_STATS="y", KEEP_CHECKPOINTS="y")
    assert train(directory).returncode == 0
    assert rows(directory, "train")[-1]["loss"] < 0.9 * math.log(320)
    for row in rows(directory, "eval"):
        assert row["loss"] == pytest.approx(math.log(320), rel=1e-6)
    uniform = sum(math.log(t) for t in range(1, 17)) / 16
    for row in rows(directory, "attention"):
        assert sum(row["entropy"], []) == pytest.approx([uniform] * 8, rel=1e-5)
    kept = torch.load(directory / "checkpoint" / "model.pt")["model"]
    saved = torch.load(directory / "checkpoint" / "step-000000020.pt")["model"]
    assert not any(value.any() for each in (kept, saved) for value in each.values())
    model = GPT(run_settings(config_py.read(directory / "config.py").values).model)
    model.load_state_dict(kept)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["model_sha256"] == weights_sha256(model)


def test_the_estimate_is_of_a_ranks_share(small, monkeypatch):
    """AdamW's 16 bytes per parameter, shared by two ranks."""
    settings = small(GPUS_PER_RUN="2", EFFECTIVE_BATCH="8")
    whole = memory_estimate(settings, 2)
    monkeypatch.setattr(memory, "chosen", lambda settings: Elsewhere)
    parameters = sum(p.numel() for p in GPT(settings.model).parameters())
    assert whole - memory_estimate(settings, 2) == 16 * parameters // 2


def test_every_rank_holds_everything():
    held = TrainingBytes(weights=4, gradients=30, optimizer=200, pruning=1000)
    assert DataParallel.bytes_per_rank(held, 8) == 1234
