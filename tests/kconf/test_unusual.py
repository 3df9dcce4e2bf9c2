"""Values that are allowed and questioned."""

import pytest

from kconf.presets import presets
from kconf.study import list_steps, resolve_step, study_dir
from kconf.unusual import RATES, questions, warnings
from tests.conftest import ROOT


def test_every_optimizer_has_bounds(tree):
    assert set(RATES) == {"OPTIMIZER_ADAMW", *tree.siblings("OPTIMIZER_ADAMW")}


@pytest.mark.parametrize(
    "optimizer, fine, odd",
    [
        ("ADAMW", ("6e-4", "3e-3", "1e-6", "0.1"), ("99", "0.3", "6e-9", "1e38")),
        ("ADAM", ("1e-3",), ("1.0",)),
        ("ADAMWADV", ("1e-3",), ("1.0",)),
        ("ADAMWSPAM", ("1e-3",), ("1.0",)),
        ("SGD", ("0.1", "1.0", "5", "1e-4"), ("99", "6e-7")),
        ("MUON", ("6e-4", "0.02"), ("0.2",)),
    ],
)
def test_rates(resolve, optimizer, fine, odd):
    for rate in (*fine, *odd):
        values = resolve({f"OPTIMIZER_{optimizer}": "y", "LEARNING_RATE": rate})
        asked = questions(values)
        assert len(asked) == (rate in odd), rate
        head = (
            f"CONFIG_LEARNING_RATE={rate}: CONFIG_OPTIMIZER_{optimizer} is used with "
        )
        assert not asked or asked[0].startswith(head)


def test_muon_as_first_published_has_rates_of_its_own(resolve):
    original = {"OPTIMIZER_MUON": "y", "MUON_SCALE_ORIGINAL": "y"}
    assert questions(resolve(original, LEARNING_RATE="0.2")) == []
    assert "1e-05 to 1:" in questions(resolve(original, LEARNING_RATE="2"))[0]


def test_a_line_names_the_steps_unless_it_is_all_of_them():
    assert warnings([("a", ["odd?"]), ("b", ["odd?"])]) == ["warning: odd?"]
    assert warnings([("a", ["odd?"]), ("b", []), ("c", ["odd?"])]) == [
        "warning: a, c: odd?"
    ]
    assert warnings([("a", []), ("b", [])]) == []


def test_no_study_of_ours_is_questioned(tree):
    for name, path in presets(ROOT)[0].items():
        assert questions(tree.resolve([path]).values) == [], name
        has = study_dir(ROOT, name).is_dir()
        for step in list_steps(ROOT, name) if has else ():
            assert questions(resolve_step(tree, [path], step).values) == [], step.id
