"""A prepared cell directory over a tiny corpus, and what trains it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import run_settings
from gpt2.training.cell import execute
from kconf import config_py
from records import atomic
from tests.conftest import ROOT, SMALL
from tests.gpt2.sabotage import verdicts_of
from tests.gpt2.script import Script, install

TEXT = "".join(
    f"line {i}: the {('quick', 'lazy', 'brown')[i % 3]} fox counts {i * i}.\n"
    for i in range(400)
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, resolve) -> Path:
    """A packed local corpus of some 14 kB."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text(TEXT)
    values = resolve(**data_symbols(folder))
    packed = folder / "packed"
    prepare(run_settings(values).data, packed, say=lambda line: None)
    return packed


def data_symbols(folder: Path) -> dict[str, str]:
    """The symbols of that corpus."""
    return {
        "DATASET_LOCAL": "y",
        "LOCAL_PATH": str(folder / "text.txt"),
        "VAL_SPLIT_TAIL": "y",
        "VAL_FRACTION": "0.1",
    }


@pytest.fixture(scope="session")
def make_cell(tree, resolve, corpus):
    """make_cell(directory, MLA="y", …): a run directory as the runner leaves it."""

    def make(directory: Path, **symbols: str) -> Path:
        values = resolve(SMALL, data_symbols(corpus.parent), **symbols)
        directory.mkdir()
        config_py.write(directory / "config.py", values, tree.operational)
        atomic.write_json(
            directory / "run.json", {"schema": 1, "cell": {"hash": "0" * 64}}
        )
        return directory

    return make


@pytest.fixture
def cell(tmp_path, make_cell):
    """directory = cell("name", MLA="y", …) below this test's own folder."""
    return lambda name="cell", **symbols: make_cell(tmp_path / name, **symbols)


@pytest.fixture
def command(corpus):
    """argv = command(directory): what the runner would start."""

    def make(directory: Path) -> list[str]:
        entry = ROOT / "gpt2" / "train_ra_mla.py"
        where = ["--run-dir", str(directory), "--data-dir", str(corpus)]
        return [sys.executable, str(entry), *where]

    return make


@dataclass
class Done:
    """How a run in this process ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def train(corpus, capsys):
    """done = train(directory): run the cell to its end in this process."""

    def run(directory: Path) -> Done:
        capsys.readouterr()
        status = execute(directory, corpus)
        output = capsys.readouterr()
        return Done(status, output.out, output.err)

    return run


@pytest.fixture
def verdicts(tree):
    """verdicts("0", "9") of those RATIO steps under whatever is patched."""
    return lambda *numbers: verdicts_of(tree, *numbers)


@pytest.fixture
def script(monkeypatch) -> Script:
    """The time of every run of this test."""
    script = Script()
    install(script, monkeypatch)
    return script
