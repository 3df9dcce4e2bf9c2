"""The list is sound and documented; `make test-mutants` runs it."""

import shutil

import pytest

from tests.mutants.catalogue import MUTANTS, page
from tests.mutants.mutant import Mutant, Test, check
from tests.mutants.run import PAGE, ROOT, Copy, attempt, caught


def test_ids_are_names_of_one_mutant_each():
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS) >= 45


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_the_source_is_where_the_mutant_expects_it(mutant, tmp_path):
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutant.file, copy)
    assert mutant.apply(tmp_path) != copy.read_text()
    compile(copy.read_text(), mutant.file, "exec")


def test_the_page_lists_them():
    assert PAGE.read_text() == page(), "WRITE=1 make test-mutants writes it"


def test_a_mutant_without_its_source(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    mutant = Mutant("twice", "", "a.py", "x = 1", "x = 2", Test("a.py"))
    with pytest.raises(ValueError, match="twice: a.py holds 'x = 1' 2 times, not once"):
        mutant.apply(tmp_path)


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
    mutant = Mutant("gone", "", "Makefile", "no such line", "", Test(""))
    assert "0 times, not once" in attempt(copy, mutant).problem


def test_only_the_promise_named_counts(copy):
    """Another promise that would break later does not."""
    layer = copy.root / "gpt2/attention/attention.py"
    text = layer.read_text()
    layer.write_text(text.replace("is_causal=mask_TT is None", "is_causal=False"))
    try:
        assert caught(copy, check("0", "causality")) is None
        problem = caught(copy, check("0", "formulas"))
        assert "breaks causality, not formulas" in problem
    finally:
        layer.write_text(text)
