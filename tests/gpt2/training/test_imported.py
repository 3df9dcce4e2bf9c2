"""All that real runs and their children run of ours counts for their identity.

A hook in every process of a run notes each of our files that is executed, by import or
as a script.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrix.fleet import torchrun
from records import codehash
from records.codehash import FROM_SNAPSHOT, Code, snapshot
from tests.conftest import ROOT
from tests.gpt2 import hand_cells

HOOK = """
import os, sys
noted = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments):
    if event == "exec" and arguments[0].co_filename.startswith(os.environ["CODE"]):
        os.write(noted, f"{arguments[0].co_filename}\\n".encode())
sys.addaudithook(note)
"""
SHORT = {"GPT2_MAX_ITERS": "4", "GPT2_EVAL_INTERVAL": "2", "LOG_INTERVAL": "1"}
RUNS = {
    "packed": ("packed", {}),
    "on the fly": ("live", {"OPTIMIZER_ADAM": "y"}),
    "two ranks": ("packed", {"GPUS_PER_RUN": "2", "OPTIMIZER_MUON": "y"}),
    "pruned": (
        "packed",
        {
            **{"PRUNING_MAGNITUDE": "y", "PRUNING_START": "0.0", "PRUNING_END": "0.5"},
            **{"PRUNING_FREQUENCY": "1", "OPTIMIZER_ADAMWSPAM": "y", "RA": "y"},
            **{
                "MLA": "y",
                "MLP_LATENT_RECIP": "y",
                "LOG_ATTENTION_STATS": "y",
                "DTYPE_BF16": "y",
            },
        },
    ),
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory, resolve, tree) -> dict[str, tuple[dict, set[str]]]:
    """For every run its values and the files that its processes executed."""
    folder = tmp_path_factory.mktemp("traced")
    code = snapshot(ROOT, folder / "code")
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    (corpora := folder / "corpora").mkdir()
    places = hand_cells.places(corpora, resolve)
    started, values = {}, {}
    for name, (place, symbols) in RUNS.items():
        wanted = {**hand_cells.COMMON, **places[place].symbols, **SHORT}
        values[name] = resolve(wanted, symbols)
        directory = hand_cells.cell(folder / name.replace(" ", "-"), values[name], tree)
        script = [str(code / "gpt2/train_ra_mla.py"), "--run-dir", str(directory)]
        script += ["--data-dir", str(places[place].packed)]
        ranks = values[name]["GPUS_PER_RUN"]
        if ranks > 1:
            script = torchrun.local("", ranks, 0, script)[1:]
        noted = {"NOTED": str(folder / f"{name}.txt"), "CODE": str(code)}
        paths = {"PYTHONPATH": str(hook), "OMP_NUM_THREADS": "1", **FROM_SNAPSHOT}
        environment = {**os.environ, **noted, **paths}
        command = [sys.executable, *script]
        with open(directory / "said", "w") as said:
            started[name] = directory, subprocess.Popen(
                command, env=environment, stdout=said, stderr=said
            )
    executed = {}
    for name, (directory, process) in started.items():
        assert process.wait(300) == 0, (directory / "said").read_text()
        lines = (folder / f"{name}.txt").read_text().splitlines()
        files = {Path(line).relative_to(code).as_posix() for line in lines}
        executed[name] = values[name], files
    return executed


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_executes_counts(traced, name):
    values, files = traced[name]
    ours = {file for file in files if file.split("/")[0] in codehash.IDENTITY_ROOMS}
    assert ours - set(Code(ROOT).of(values)) == set()
    assert {"gpt2/train_ra_mla.py", "gpt2/training/trainer.py"} <= ours


@pytest.mark.parametrize(
    "name, file",
    [
        ("on the fly", "gpt2/data/loading/feeder.py"),
        ("on the fly", "gpt2/data/tokenization/tokenizers.py"),
        ("two ranks", "gpt2/distributed/torchrun.py"),
        ("pruned", "gpt2/model/mlp/latent.py"),
    ],
)
def test_the_children_were_looked_at(traced, name, file):
    assert file in traced[name][1]


def test_every_room_of_a_snapshot_is_needed(traced):
    rooms = {file.split("/")[0] for _, files in traced.values() for file in files}
    assert rooms == set(codehash.SNAPSHOT_ROOMS)
