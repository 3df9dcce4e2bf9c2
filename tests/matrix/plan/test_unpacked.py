"""A plan before its corpus is packed: every cell by name, and nothing trained."""

import re
import shutil

import pytest

BASELINE = {"SEEDS": "1-3"}


@pytest.fixture
def unpacked(checkout):
    """The checkout without a packed corpus."""
    shutil.rmtree(checkout.root / "data")
    return checkout


def test_it_says_what_it_can(unpacked):
    status, output = unpacked.run("plan")
    assert status == 0, output
    for step in ("00-control", "02-wide", "08-hot"):
        for seed in (1, 2):
            line = rf"^{step}/seed-{seed}/\? +unpacked +its hash .* make data$"
            assert re.search(line, output, re.M)
    assert "toy: 6 cells (6 unpacked)" in output
    assert output.count("dataset.json: not there; `make data` packs the corpus") == 1
    assert re.search(r"^disk: up to [1-9].* of .* free$", output, re.M)
    status, output = unpacked.run("estimate")
    assert status == 0 and "02-wide seed-2" in output
    assert unpacked.run("--dry-run")[0] == 0


@pytest.mark.parametrize("command", ["run", "continue", "report", "prereg", "verdict"])
def test_nothing_else_goes_on(unpacked, command):
    status, output = unpacked.run(command)
    assert status == 2 and output.endswith("`make data` packs the corpus\n")
    assert unpacked.cells == {} and not (unpacked.root / "results" / "toy").exists()


def test_two_steps_that_are_one_are_refused_as_ever(unpacked):
    unpacked.step("09-same", "# Help: again\nCONFIG_MLP_DIM=1024\n")
    status, output = unpacked.run("plan")
    assert status == 2 and "same configuration" in output


def test_a_sequential_study_and_a_baseline(unpacked):
    given = {"DESIGN": "sequential", "CONFIG_LOOKS": "6", "CONFIG_CONFIRM_SEEDS": "1-6"}
    status, output = unpacked.run("plan", SMALLEST="0.1", **given)
    assert status == 0 and "18 unpacked" in output, output
    status, output = unpacked.run("plan", BASELINE="results/absent")
    assert status == 0 and "00-control/seed-1/?" in output, output
