"""scripts/prepare_data.py from .config and overrides to a packed corpus."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kconf import dotconfig
from kconf.overrides import Overrides
from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "prepare_data.py"


@pytest.fixture
def prepare_data(tmp_path, tree):
    """status, said = prepare_data("--check", CONFIG_X=…) on a small text."""
    (tmp_path / "corpus").write_bytes(b"some text, " * 500)
    symbols = {
        "DATASET_LOCAL": "y",
        "LOCAL_PATH": str(tmp_path / "corpus"),
        "VAL_SPLIT_TAIL": "y",
        "VAL_FRACTION": "0.1",
        "DATA_DIR": str(tmp_path / "data"),
    }
    config = tmp_path / "x.config"
    dotconfig.write(config, tree, tree.resolve([Overrides(symbols)]))

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            cwd=tmp_path,
            env={**os.environ, "KCONFIG_CONFIG": str(config), **environment},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_it_packs_then_verifies(tmp_path: Path, prepare_data) -> None:
    status, said = prepare_data("--check")
    assert status == 1 and "it is not there" in said
    assert not (tmp_path / "data").exists()
    status, said = prepare_data()
    assert status == 0 and "train         4,950 tokens" in said
    status, said = prepare_data("--check")
    assert status == 0 and "up to date" in said


def test_an_override_names_another_corpus(prepare_data) -> None:
    assert prepare_data()[0] == 0
    status, said = prepare_data("--check", CONFIG_VAL_FRACTION="0.2")
    assert status == 1 and "it is not there" in said


def test_a_hand_edit_counts_and_is_checked(tmp_path: Path, prepare_data) -> None:
    config = tmp_path / "x.config"
    text = config.read_text()
    config.write_text(text.replace('FRACTION="0.1"', 'FRACTION="0.2"'))
    status, said = prepare_data()
    assert status == 0 and "train         4,400 tokens" in said
    config.write_text(text.replace('FRACTION="0.1"', 'FRACTION = "0.1"'))
    status, said = prepare_data()
    assert status == 1 and "x.config:" in said


@pytest.mark.parametrize(
    "change, message",
    [
        ({"LOCAL_PATH": "/nowhere"}, "CONFIG_LOCAL_PATH=/nowhere: No such file"),
        ({"VAL_FRACTION": "2"}, 'CONFIG_VAL_FRACTION="2": is out of range'),
        ({"VAL_SPLIT_DOCUMENT": "y"}, "use CONFIG_VAL_SPLIT_TAIL=y"),
        ({"TYPO": "y"}, "CONFIG_TYPO"),
    ],
)
def test_errors_are_one_message(prepare_data, change, message) -> None:
    status, said = prepare_data(**{f"CONFIG_{k}": v for k, v in change.items()})
    assert status == 1 and message in said
