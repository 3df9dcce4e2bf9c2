"""Symbols that came later, and runs from before them."""

import pytest

from kconf import config_py
from kconf.strict import Tree
from matrix.report.compare import compare
from records import history
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
