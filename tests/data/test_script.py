"""scripts/prepare_data.py from config.py to a packed corpus."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kconf import config_py

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "corpus").write_bytes(b"some text, " * 500)
    return {
        "DATASET_STDLIB": False,
        "DATASET_LOCAL": True,
        "STDLIB_TESTS": False,
        "LOCAL_PATH": "corpus",
        "LOCAL_FIELD": "text",
        "TOKENIZER_BYTE": True,
        "VAL_SPLIT_DOCUMENT": False,
        "VAL_SPLIT_TAIL": True,
        "VAL_FRACTION": "0.1",
        "DATA_DIR": "data",
        "SHARD_TOKENS": 4194304,
        "DATA_PREFETCH": 2,
    }


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_it_packs_then_verifies(tmp_path: Path, values: dict[str, Any]) -> None:
    config_py.write(tmp_path / "config.py", values, ())
    status, said = run(tmp_path, "--check")
    assert status == 1 and "it is not there" in said
    assert not (tmp_path / "data").exists()
    status, said = run(tmp_path)
    assert status == 0 and "train         4,950 tokens" in said
    status, said = run(tmp_path, "--check", "--config", str(tmp_path / "config.py"))
    assert status == 0 and "up to date" in said


@pytest.mark.parametrize(
    "change, message",
    [
        ({"LOCAL_PATH": "nowhere"}, "CONFIG_LOCAL_PATH=nowhere: No such file"),
        ({"LOCAL_PATH": ""}, 'CONFIG_LOCAL_PATH="": names no file'),
        ({"VAL_FRACTION": "2"}, 'CONFIG_VAL_FRACTION="2": is out of range'),
        (
            {"VAL_SPLIT_TAIL": False, "VAL_SPLIT_DOCUMENT": True},
            "use CONFIG_VAL_SPLIT_TAIL=y",
        ),
        ({"DATA_DIR": "corpus"}, "CONFIG_DATA_DIR must be a folder"),
    ],
)
def test_a_mistake_is_one_clear_line(
    tmp_path: Path, values: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    config_py.write(tmp_path / "config.py", {**values, **change}, ())
    status, said = run(tmp_path)
    assert status == 1 and message in said


def test_a_missing_config_is_an_error(tmp_path: Path) -> None:
    status, said = run(tmp_path)
    assert status == 1 and "config.py" in said
