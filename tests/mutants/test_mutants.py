"""The list is sound and documented; `make test-mutants` runs it."""

import shutil

import pytest

from tests.mutants.catalogue import MUTANTS, page
from tests.mutants.mutant import Mutant, Test
from tests.mutants.run import PAGE, ROOT, Copy, caught


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


def test_only_an_assertion_counts(tmp_path):
    with Copy(tmp_path) as copy:
        for text, told in ENDINGS.items():
            (tmp_path / "tests" / "test_it.py").write_text(text)
            problem = caught(copy, Test("tests/test_it.py"))
            assert problem is None if told is None else told in problem
