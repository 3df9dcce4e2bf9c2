"""Two runs, or two studies, side by side."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matrix.report.compare import compare
from matrix.results.run import ReportError
from tests.matrix.synthetic import Cell

ROOT = Path(__file__).resolve().parents[3]
HOT = {"values": {"LEARNING_RATE": "1e-2"}, "facts": {"dtype": "bf16"}}
BASE = {"values": {"LEARNING_RATE": "3e-4"}}


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """Two studies of two seeds; the second has a higher rate and another dtype."""
    for study, change, shift in (("one", BASE, 0.0), ("two", HOT, -0.1)):
        for seed in (1, 2):
            losses = (5.5, 3.3 + shift + 0.01 * seed * (study == "two"))
            Cell("00-base", seed, losses, **change).finish(tmp_path, study)
    Cell("01-ra", 1, (5.5, 3.2), **BASE).finish(tmp_path, "one")
    return tmp_path / "one", tmp_path / "two"


def test_two_runs(two):
    run = Cell("00-base", 1, ()).path(two[0].parent, "one")
    other = Cell("00-base", 2, ()).path(two[0].parent, "two")
    text = compare(run, other)
    assert 'CONFIG_LEARNING_RATE: "3e-4" | "1e-2"' in text
    assert "dtype: fp32 | bf16" in text and "device" not in text
    assert re.search(r"validation loss, nats/token +3\.3 +3\.22 +-0\.08\n", text)
    assert re.search(r"parameters +1\.24476e\+08 +1\.24476e\+08\n", text)
    assert "Descriptive: no verdict" in text and "SEED" not in text


def test_two_studies(two):
    text = compare(*two)
    assert 'CONFIG_LEARNING_RATE: "3e-4" | "1e-2" (00-base)' in text
    line = next(x for x in text.splitlines() if x.startswith("  00-base"))
    assert line.split()[1:4] == ["3.3000", "3.2150", "-0.08500"]
    assert "2 shared seeds, SD 0.00707" in line
    line = next(x for x in text.splitlines() if x.startswith("  01-ra"))
    assert line.split()[1:] == ["3.2000", "–", "–", "0", "shared", "seeds"]


def test_two_steps(two):
    """Over the seeds that both have, each metric with the deviation of B − A."""
    text = compare(two[0] / "00-base", two[1] / "00-base")
    assert 'CONFIG_LEARNING_RATE: "3e-4" | "1e-2"\n' in text
    assert "dtype: fp32 | bf16" in text
    assert "means of seeds 1-2" in text
    line = next(x for x in text.splitlines() if x.startswith("  val_loss"))
    assert line.split()[1:] == ["3.3", "3.215", "-0.085", "0.00707107"]
    within = compare(two[0] / "00-base", two[0] / "01-ra")
    assert "means of seeds 1 " in within
    line = next(x for x in within.splitlines() if x.startswith("  val_loss"))
    assert line.split()[1:] == ["3.3", "3.2", "-0.1", "–"]
    Cell("02-x", 3, (5.5, 3.2), **BASE).finish(two[0].parent, "one")
    apart = compare(two[0] / "00-base", two[0] / "02-x")
    assert "no seed is finished in both" in apart


def test_runs_of_one_step_that_are_not_one_configuration(two):
    """A trial's run beside the study's: the mean is of both, and that is said."""
    more = {**BASE, "values": {**BASE.get("values", {}), "LEARNING_RATE": "0.5"}}
    Cell("00-base", 3, (5.5, 3.2), **more).finish(two[0].parent, "one")
    text = compare(two[0] / "00-base", two[0] / "00-base")
    for side in "AB":
        assert f"{side}: the runs of 00-base differ in CONFIG_LEARNING_RATE\n" in text
    assert "the runs of 00-base" not in compare(two[1], two[1])


def test_a_study_with_itself(two):
    text = compare(two[0], two[0])
    assert text.count("the same") == 2


def test_what_cannot_be_compared(two, tmp_path):
    run = Cell("00-base", 1, ()).path(tmp_path, "one")
    with pytest.raises(ReportError, match="one is a run, the other a study"):
        compare(run, two[1])
    with pytest.raises(ReportError, match="one is a step, the other a study"):
        compare(two[0] / "00-base", two[1])
    with pytest.raises(ReportError, match="no such study"):
        compare(two[0], tmp_path / "three")
    with pytest.raises(ReportError, match="neither a run nor a study"):
        compare(two[0], tmp_path)
    failed = Cell("02-x", 1, (5.5,)).fail(tmp_path, "boom", "one")
    with pytest.raises(ReportError, match="failed: boom"):
        compare(Cell("02-x", 1, ()).path(tmp_path, "one"), failed)


def test_the_script(two, tmp_path):
    """By the names of make compare A=… B=…, below OUTPUT=."""

    def call(*sides: str) -> subprocess.CompletedProcess:
        script = [sys.executable, str(ROOT / "scripts" / "compare_runs.py")]
        environment = {**os.environ, "OUTPUT": str(tmp_path), "KCONFIG_CONFIG": "none"}
        return subprocess.run(
            [*script, *sides], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    done = call("one", "two")
    assert done.returncode == 0 and "Fairness" in done.stdout, done.stderr
    done = call("one/00", "two/0")
    assert done.returncode == 0 and "means of seeds 1-2" in done.stdout, done.stderr
    lost = call("one", "3")
    assert lost.returncode == 1
    assert lost.stderr.startswith("error: B=3: no such run; there are\n  one/00-base/")
