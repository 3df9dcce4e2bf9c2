"""Exports that lie: one line each, soon, and in little memory."""

import json
import os
import re
import subprocess
import sys

import pytest

from gpt2.export import huggingface, native
from tests.conftest import ROOT
from tests.gpt2.export import forged
from tests.gpt2.export.hostile_cases import CASES
from tests.gpt2.parcels import bpe, pack, randomised, values

RA, GPT2 = "gpt2-ratio-ablation/05-ra", "gpt2-124m"
SOONEST = 5.0
"""Seconds that a refusal may take."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What each case got, by its id."""
    folder = tmp_path_factory.mktemp("exports")
    run = {"commit": None, "study": "gpt2-ratio-ablation", "seed": 1}
    for name, kind, write, whole in [
        (RA, "native", native.write, True),
        (GPT2, "hf", huggingface.write, False),
        (RA, "onnx", forged.onnx, True),
    ]:
        origin = {"symbols": values(name), "run": run}
        packed = pack(randomised(name, bpe()), origin, "fp32", whole)
        write(folder / kind, packed)
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpt2.export.hostile", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["id"]: row for row in found}


def test_every_case_has_a_name_of_its_own():
    assert len({case.id for case in CASES}) == len(CASES) > 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_is_refused_in_one_line(rows, case):
    row = rows[case.id]
    assert row["kind"] == "ExportError", row
    assert re.search(case.why, row["said"]), row["said"]
    assert len(row["said"].splitlines()) == 1 and len(row["said"]) < 1000, row["said"]
    assert row["seconds"] < SOONEST
