"""config.py is data: read as literals, refused when touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from kconf import config_py
from kconf.syntax import ConfigError

VALUES = {"B": True, "A": 3, "C": 'q"\\\n', "D": None, "JOBS": 2}


@pytest.fixture
def path(tmp_path):
    config_py.write(tmp_path / "config.py", VALUES, ["JOBS"])
    return tmp_path / "config.py"


def test_round_trip(path):
    config = config_py.read(path)
    assert config.values == VALUES and type(config.values["B"]) is bool
    assert config.operational == {"JOBS"}
    assert config.identity == config_py.identity(VALUES, ["JOBS"])
    rows = path.read_text().splitlines()
    assert rows[1:3] == ["A = 3", "B = True"]


def test_identity_sees_identity_symbols_only():
    first = config_py.identity(VALUES, ["JOBS"])
    assert config_py.identity({**VALUES, "JOBS": 3}, ["JOBS"]) == first
    assert config_py.identity({**VALUES, "A": 4}, ["JOBS"]) != first
    assert config_py.identity({**VALUES, "A": "3"}, ["JOBS"]) != first
    assert config_py.identity({**VALUES, "B": 1}, ["JOBS"]) != first
    assert config_py.identity(dict(reversed(VALUES.items())), ["JOBS"]) == first


def test_identity_is_the_same_tomorrow():
    """Results on disk are found by it."""
    assert config_py.identity({"A": 1, "B": "é"}, []) == (
        "dda8470eb57aca4e0328f9a0ebd29903325dbe0b543d95eea0739a52fa7a460a"
    )


@pytest.mark.parametrize(
    "old, new, cause",
    [
        ("A = 3", "A = 4", "edited by hand"),
        ("A = 3", "A  =  3", "edited by hand"),
        ("('JOBS',)", "('A', 'JOBS')", "edited by hand"),
        ("A = 3", "A = 3\nA = 3", "assigned twice"),
        ("A = 3", "A = int('3')", "A is not a literal"),
        ("A = 3", "A = __import__('os').getcwd()", "A is not a literal"),
        ("A = 3", "A = [3]", "A is list"),
        ("A = 3", "A = 3.0", "A is float"),
        ("A = 3", "A, E = 3, 4", "only NAME = literal"),
        ("A = 3", "import os", "only NAME = literal"),
        ("A = 3", "A == 3", "only NAME = literal"),
        ("A = 3", "A = = 3", "is not Python"),
        ("A = 3\n", "", "edited by hand"),
        ("SCHEMA = 1", "SCHEMA = 2", "schema 2, this code reads 1"),
        ("SCHEMA = 1\n", "", "has no SCHEMA"),
    ],
)
def test_a_touched_file_is_refused(path, old, new, cause):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        config_py.read(path)
    assert cause in str(caught.value) and "config.py" in caught.value.findings[0].path


def test_nothing_is_executed(tmp_path):
    victim = tmp_path / "victim"
    path = tmp_path / "config.py"
    path.write_text(f"A = open({str(victim)!r}, 'w')\n")
    with pytest.raises(ConfigError, match=":1: A is not a literal"):
        config_py.read(path)
    assert not victim.exists()


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(ConfigError, match="run make config.py"):
        config_py.read(tmp_path / "config.py")


@pytest.mark.parametrize("values", [{"A": 1.5}, {"A B": 1}, {"SCHEMA": 1}])
def test_what_cannot_be_written(tmp_path, values):
    with pytest.raises(ValueError):
        config_py.write(tmp_path / "config.py", values, [])
    assert not list(tmp_path.iterdir())


def test_a_machine_that_only_runs_cells_needs_no_kconfiglib():
    code = (
        "import sys, kconf.bind, kconf.config_py, kconf.overrides\n"
        "sys.exit('kconfiglib' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
