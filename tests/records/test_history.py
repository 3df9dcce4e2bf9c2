"""Symbols that came later, and runs from before them."""

import tarfile
from pathlib import Path

import pytest

from gpt2.settings.run import RunSettings, run_settings
from kconf import config_py
from kconf.bind import symbols_of
from kconf.strict import Tree
from matrix.report.compare import compare
from records import history, read
from records.codehash import combined
from tests.conftest import ROOT
from tests.matrix.synthetic import Cell

KINDS = {"bool": bool, "int": int, "string": str}


@pytest.fixture(autouse=True)
def added(monkeypatch):
    """A table of its own."""
    table = {"FLAG": False, "COUNT": 3, "LAYERS": "", "HEADS": None}
    monkeypatch.setattr(history, "ADDED", table)


TABLE = dict(history.ADDED)


def test_every_line_is_a_symbol_with_a_value_of_its_kind(tree: Tree):
    assert set(TABLE) <= set(tree.symbols)
    for symbol, value in TABLE.items():
        kind = KINDS[tree.kind(symbol)]
        assert type(value) is kind or (value is None and kind is not bool), symbol


@pytest.fixture(scope="module")
def former(tmp_path_factory) -> Path:
    """A run of before the table (tests/e2e/test_former_records.py)."""
    folder = tmp_path_factory.mktemp("former")
    with tarfile.open(ROOT / "tests/e2e/former.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return next(folder.glob("former/study/00-baseline/seed-1/*"))


def lacking(tree: Tree, values: dict) -> set[str]:
    """What a run does not know, of the symbols of identities and of settings."""
    wanted = {*tree.symbols} - tree.operational | {*symbols_of(RunSettings)}
    return wanted - values.keys()


def test_every_symbol_that_a_former_run_lacks_has_its_line(tree: Tree, former: Path):
    """Written in the commit that adds the symbol: see records/history.py."""
    values = config_py.read(former / "config.py").values
    assert lacking(tree, values) <= set(TABLE)
    run_settings({**TABLE, **values})
    older = {name: each for name, each in values.items() if name != "LOCAL_SHUFFLE"}
    assert lacking(tree, older) - lacking(tree, values) == {"LOCAL_SHUFFLE"}


def test_the_code_of_a_former_run_is_that_of_the_files_it_names(former: Path):
    """By the rule of its time, which needs no list of ours."""
    run = read.run(former / "run.json")
    identity = run["cell"]["identity"]
    assert "code_rule" not in identity
    assert combined(run["code_files"]) == identity["code"]


@pytest.mark.parametrize(
    "values, found",
    [
        ({"OLD": 1}, set()),
        ({"FLAG": False, "OLD": 1}, {"FLAG"}),
        ({"FLAG": True}, set()),
        ({"COUNT": 3, "LAYERS": "", "HEADS": None}, {"COUNT", "LAYERS", "HEADS"}),
        ({"COUNT": None, "LAYERS": None}, {"COUNT", "LAYERS"}),
        ({"COUNT": 4, "LAYERS": "a", "HEADS": 8}, set()),
        ({"FLAG": 0, "COUNT": 3.0}, set()),
    ],
)
def test_what_stands_for_the_time_before(values, found):
    assert history.as_before(values) == found


def test_an_older_run_is_completed_and_keeps_what_it_has():
    assert history.completed({"OLD": 1, "COUNT": 4, "HEADS": 8, "LAYERS": None}) == {
        **{"OLD": 1, "FLAG": False, "COUNT": 4, "HEADS": 8, "LAYERS": None}
    }


@pytest.mark.parametrize(
    "one, other, found",
    [
        ({}, {"FLAG": False, "COUNT": None, "LAYERS": "", "HEADS": None}, []),
        ({"COUNT": 3}, {"COUNT": None}, []),
        ({}, {"COUNT": 4, "FLAG": True}, ["COUNT", "FLAG"]),
        ({"HEADS": 2}, {}, ["HEADS"]),
        ({"OLD": 1}, {}, ["OLD"]),
        ({"OLD": 1}, {"OLD": True}, ["OLD"]),
        ({"OLD": None}, {}, ["OLD"]),
    ],
)
def test_in_what_two_runs_of_any_age_differ(one, other, found):
    assert history.differing(one, other) == history.differing(other, one) == found


def test_a_comparison_is_of_resolved_values(tmp_path):
    """A run that knows the symbols, and one that is older."""
    old, new, other = (
        Cell("00-base", 1, (5.5, 3.3), values=values).finish(tmp_path, study)
        for study, values in {
            "old": {},
            "new": {"FLAG": False, "COUNT": 3, "LAYERS": None},
            "other": {"FLAG": False, "COUNT": 5, "LAYERS": "a"},
        }.items()
    )
    assert "Configuration\n  the same\n" in compare(old, new)
    text = compare(old, other)
    assert 'CONFIG_COUNT: 3 | 5\n  CONFIG_LAYERS: "" | "a"\n' in text
    assert "FLAG" not in text


def test_the_identity_leaves_them_out_and_the_file_says_so(tmp_path):
    values = {"OLD": 1, "FLAG": False, "COUNT": 4, "JOBS": 2}
    before = history.as_before(values)
    path = tmp_path / "config.py"
    config_py.write(path, values, ["JOBS"], before)
    found = config_py.read(path)
    assert found.values == values and found.operational == {"JOBS"}
    assert found.identity == config_py.identity({"OLD": 1, "COUNT": 4}, ())
    text = path.read_text()
    assert "AS_BEFORE = ('FLAG',)\n" in text
    for old, new in (("('FLAG',)", "('COUNT', 'FLAG')"), ("('FLAG',)", "()")):
        path.write_text(text.replace(old, new))
        with pytest.raises(config_py.ConfigError, match="edited by hand"):
            config_py.read(path)
