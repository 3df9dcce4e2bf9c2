"""The list is sound; `make test-mutants` runs it."""

import shutil

import pytest

from tests.mutants.catalogue import MUTANTS, table
from tests.mutants.mutant import ROOMS, Mutant, Test, check
from tests.mutants.run import ROOT, Copy, attempt, caught


def test_ids_are_names_of_one_mutant_each():
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS) >= 45


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """The rooms that mutants change, on their own."""
    root = tmp_path_factory.mktemp("rooms")
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room)
    return root


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_the_source_is_where_the_mutant_expects_it(mutant, rooms):
    path, text = mutant.apply(rooms)
    changed = path.read_text()
    path.write_text(text)
    assert changed != text == (ROOT / path.relative_to(rooms)).read_text()
    compile(changed, path, "exec")


def test_the_table_lists_those_that_fit():
    whole = table([])
    assert all(f"\n| {mutant.id} | " in whole for mutant in MUTANTS)
    fitting = [m for m in MUTANTS if m.id.startswith("ra-")]
    assert table(["ra-*"]).count("\n| ") == len(fitting) + 1  # its own head


TWICE = "x = 1\nx = 1\n\n\ndef f():\n    x = 1\n\n\nclass A:\n    def f(self):\n        y = 1\n"


@pytest.mark.parametrize(
    "place, told",
    {
        "a": "twice: a holds 'x = 1' 3 times, not once",
        "a:A.f": "twice: a:A.f holds 'x = 1' 0 times, not once",
        "a:g": "twice: a:g: 0 are called g",
        "a:f": None,
        "b": "twice: 0 modules are called b",
        "c": "twice: 2 modules are called c",
        "matrix.c": None,
    }.items(),
)
def test_a_place_is_one_definition_of_one_module(tmp_path, place, told):
    for name in ("gpt2/a.py", "gpt2/c.py", "matrix/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TWICE if name == "gpt2/a.py" else "x = 1\n")
    mutant = Mutant("twice", "", place, "x = 1", "x = 2", Test("a.py"))
    if told:
        with pytest.raises(ValueError) as stale:
            mutant.apply(tmp_path)
        assert str(stale.value) == told
    else:
        path, text = mutant.apply(tmp_path)
        assert path.read_text().count("x = 2") == 1 and "x = 2" not in text


ENDINGS = {
    "def test_it():\n    assert 1 == 2\n": None,
    "def test_it():\n    assert True\n": "survives",
    "def test_it():\n    int('x')\n": "not by an assertion: ValueError",
    "import nothing_of_that_name\n": "does not get as far as the test",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    with Copy(tmp_path_factory.mktemp("copy")) as copy:
        yield copy


def test_only_an_assertion_counts(copy):
    for text, told in ENDINGS.items():
        (copy.root / "tests" / "test_it.py").write_text(text)
        problem = caught(copy, Test("tests/test_it.py"))
        assert problem is None if told is None else told in problem


def test_a_mutant_whose_source_moved_is_not_caught(copy):
    mutant = Mutant("gone", "", "gpt2.model.gpt:GPT", "no such line", "", Test(""))
    assert "0 times, not once" in attempt(copy, mutant).problem


def test_only_the_promise_named_counts(copy):
    """Another promise that would break later does not."""
    layer = copy.root / "gpt2/model/mixers/attention/cores.py"
    text = layer.read_text()
    layer.write_text(text.replace("is_causal=mask_TT is None", "is_causal=False"))
    try:
        assert caught(copy, check("0", "causality")) is None
        problem = caught(copy, check("0", "formulas"))
        assert "breaks causality, not formulas" in problem
    finally:
        layer.write_text(text)
