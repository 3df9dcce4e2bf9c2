"""What is measured is what is claimed; times themselves are not judged here."""

import os
import subprocess
import sys

import pytest
import torch

from gpt2 import optim
from gpt2.measure import decoding, optimizers, sparse
from tests.conftest import ROOT, SMALL


@pytest.fixture
def found(resolve, monkeypatch):
    for name in ("ROUNDS", "CALLS", "UPDATES"):
        monkeypatch.setattr(optimizers, name, 2)
    return optimizers.measure(lambda **s: resolve(SMALL, **s), "cpu")


def test_every_optimizer_and_method_is_measured(found):
    rows = {row["name"]: row for row in found["optimizers"]}
    both = ["adamw, one pass", "adamwspam, one pass"]
    assert sorted(rows) == sorted([*optim.kinds(), *both])
    for row in rows.values():
        assert row["step"] > 0 and row["relative"] > 0 and row["tail_relative"] > 0
    sizes = {name: row["state_bytes_per_parameter"] for name, row in rows.items()}
    assert sizes["sgd"] == 4 and sizes["adamwspam"] == 8
    assert sizes["adam"] == sizes["adamw"] == pytest.approx(8, abs=0.02)
    assert sizes["adamwadv"] == pytest.approx(12, abs=0.02)
    assert 4 < sizes["muon"] < 8
    pairs = [(row["name"], row["pattern"]) for row in found["pruning"]]
    assert len(pairs) == 2 * len(optimizers.METHODS) - 1 == len(set(pairs))
    for row in found["pruning"]:
        assert row["update"] > 0
        assert row["amortised"] > row["tail"] / row["tail_baseline"] > 0
    lines = optimizers.table(found).splitlines()
    assert len(lines) == 2 + len(rows) + 1 + 2 + len(pairs)


TWO_OF_FOUR = {"PRUNING_MAGNITUDE": "y", "PATTERN_2_4": "y", "PRUNING_END": "0.5"}


def test_two_of_four_is_recognised():
    weight = torch.ones(3, 8)
    weight[:, [0, 3, 5, 6]] = 0.0
    assert sparse.two_of_four(weight)
    weight[1, 0] = 2.0
    assert not sparse.two_of_four(weight)
    assert not sparse.two_of_four(torch.zeros(4, 6))


def test_a_cpu_saves_nothing_and_says_so(cell, train, tmp_path):
    """The script, on a run of this process: 2:4 in the file, no gain here."""
    directory = cell(**TWO_OF_FOUR)
    assert train(directory).returncode == 0
    script = ROOT / "scripts" / "measure_sparse_inference.py"
    command = [sys.executable, str(script), str(directory), "--device", "cpu"]
    command += ["--dtype", "fp32", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "sparsity 50.0%; 8 of 8 matrices are 2:4" in done.stdout
    assert "the zeros save nothing here: torch multiplies zeros" in done.stdout
    assert (tmp_path / "found.json").exists()


def test_words_for_what_is_saved_and_what_is_lost():
    assert sparse._gain(0.588, "time") == "2:4 saves 41.2% of the time"
    assert sparse._gain(8.62, "time") == "2:4 takes 8.62 times the time"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same_with_half_the_weights(resolve):
    from gpt2.model.gpt import GPT
    from gpt2.model.initial import initialise
    from gpt2.settings.run import run_settings

    symbols = {"GPT2_WIDTH": "256", "MLP_DIM": "512", **TWO_OF_FOUR}
    settings = run_settings(resolve(SMALL, **symbols))
    model = GPT(settings.model)
    initialise(model, 1)
    for _, layer in sparse.covered(model):
        layer.weight.data.view(-1, 4)[:, :2] = 0.0
    found = sparse.measure(settings, model.state_dict(), "cuda", "bf16", 8)
    if "sparse_ms" in found:
        assert found["error"] < 0.02 and found["sparse_bytes"] < found["dense_bytes"]
    assert found["verdict"]


def test_decoders_are_timed_where_they_serve(small):
    wanted = [("plain", small().model), ("mla", small(MLA="y", RA="y").model)]
    said: list[str] = []
    found = decoding.measure(
        wanted, "cpu", prompt=4, tokens=12, rounds=2, command="it", say=said.append
    )
    assert said == ["1 of 2: plain", "2 of 2: mla"]
    ours = {"decoder": "triton", "obstacle": "run on cpu"}
    assert found["rows"][1::2] == [{"name": name, **ours} for name, _ in wanted]
    for row in found["rows"][::2]:
        assert row["decoder"] == "reference" and row["far"] == 0
        assert len(row["tokens_per_s_rounds"]) == 2 and row["tokens_per_s"] > 0
    assert "| mla | triton | cannot run on cpu | | |" in decoding.table(found)
