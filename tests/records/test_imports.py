"""What a cell's code is, on small trees: followed from the entry, by text alone."""

from pathlib import Path

import pytest

from records import imports
from records.codehash import Code, CodeError, combined

ENTRY = "gpt2/train_ra_mla.py"


def write(root: Path, **files: str) -> Path:
    """gpt2_a=TEXT is gpt2/a.py; every folder is a package."""
    for name, text in files.items():
        path = root / (name.replace("_", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.relative_to(root).parents:
            if folder.name:
                (root / folder / "__init__.py").touch()
    return root


def counted(root: Path, **values) -> set[str]:
    """The files that count, without the packages' own."""
    files = Code(root).of(values)
    return {name for name in files if not name.endswith("__init__.py")}


def start(root: Path, text: str, **files: str) -> Path:
    """A tree whose entry is `text`."""
    write(root, **files, gpt2_entry=text)
    return (root / "gpt2/entry.py").rename(root / ENTRY)


@pytest.mark.parametrize(
    "text, found",
    [
        ("import gpt2.a", {"gpt2/a.py"}),
        ("from gpt2 import a", {"gpt2/a.py"}),
        ("from gpt2 import a as b", {"gpt2/a.py"}),
        ("from gpt2.a import x", {"gpt2/a.py"}),
        ("from gpt2.deep.b import x", {"gpt2/deep/b.py"}),
        ("from gpt2 import a, nothing", {"gpt2/a.py"}),
        ("def f():\n    import gpt2.a", {"gpt2/a.py"}),
        ("class A:\n    def f(self):\n        from gpt2 import a", {"gpt2/a.py"}),
        ("try:\n    import gpt2.a\nexcept ImportError:\n    pass", {"gpt2/a.py"}),
        ("if False:\n    import gpt2.a", {"gpt2/a.py"}),
        ("f = lambda: __import__('gpt2.a')", set()),  # why none of ours does it
        ("import kernels.k", {"kernels/k.py"}),
        ("import records.r, kconf.c, os, torch", set()),
        ("'import gpt2.a'", set()),
        ("# import gpt2.a", set()),
    ],
)
def test_an_import_wherever_it_stands(tmp_path, text, found):
    files = {"gpt2_a": "", "gpt2_deep_b": "", "kernels_k": ""}
    start(tmp_path, text, **files, records_r="", kconf_c="")
    assert counted(tmp_path) == {ENTRY, *found}


def test_imports_of_imports_and_the_packages_around_them(tmp_path):
    lazily = "def f():\n    import gpt2.a"
    start(tmp_path, lazily, gpt2_a="import gpt2.inside.b", gpt2_inside_b="")
    write(tmp_path, gpt2_inside_c="", gpt2_idle="import gpt2.idle2")
    files = Code(tmp_path).of({})
    assert set(files) == {
        *("gpt2/__init__.py", ENTRY, "gpt2/a.py", "gpt2/inside/__init__.py"),
        "gpt2/inside/b.py",
    }
    (tmp_path / "gpt2/inside/__init__.py").write_text("import gpt2.inside.c")
    assert "gpt2/inside/c.py" in Code(tmp_path).of({})


def test_a_circle_ends(tmp_path):
    start(tmp_path, "import gpt2.a", gpt2_a="import gpt2.b", gpt2_b="import gpt2.a")
    assert counted(tmp_path) == {ENTRY, "gpt2/a.py", "gpt2/b.py"}


CHOICE = 'CHOSEN = {"gpt2.a": ("A", "MANY > 1"), "gpt2.b": ("b in WORDS",)}\n'


@pytest.mark.parametrize(
    "values, found",
    [
        ({}, set()),
        ({"A": True}, {"a"}),
        ({"A": "y"}, set()),
        ({"MANY": 2}, {"a"}),
        ({"MANY": None}, set()),
        ({"WORDS": "a a b"}, {"b"}),
        ({"WORDS": "ab"}, set()),
        ({"WORDS": None}, set()),
        ({"A": True, "WORDS": "b"}, {"a", "b"}),
    ],
)
def test_what_is_chosen_is_followed_where_a_symbol_chooses_it(tmp_path, values, found):
    lazily = CHOICE + "def f():\n    from gpt2.a import x\n    import gpt2.b\n"
    for text in (CHOICE, lazily):
        start(tmp_path, text, gpt2_a="import gpt2.c", gpt2_b="", gpt2_c="")
        found_ = counted(tmp_path, **{"A": False, "MANY": 1, "WORDS": "", **values})
        expected = {f"gpt2/{name}.py" for name in found}
        assert found_ == {ENTRY, *expected, *({"gpt2/c.py"} if "a" in found else ())}


def test_the_package_of_what_is_not_chosen_does_not_count(tmp_path):
    lazily = 'CHOSEN = {"gpt2.own.a": ("A",)}\ndef f():\n    import gpt2.own.a\n'
    start(tmp_path, lazily, gpt2_own_a="")
    assert "gpt2/own/__init__.py" not in Code(tmp_path).of({"A": False})
    assert "gpt2/own/__init__.py" in Code(tmp_path).of({"A": True})


def test_a_row_more_changes_no_file(tmp_path):
    """And nothing else of the file is left out."""
    text = "x = 1  # é\n{}y = 2\n"
    digests = set()
    for table in (
        "CHOSEN = {}",
        CHOICE.strip(),
        'CHOSEN = {\n    "gpt2.b": ("A",),\n}',
    ):
        start(tmp_path, text.format(table + "\n"), gpt2_b="")
        values = {"A": False, "MANY": 1, "WORDS": ""}
        digests.add(Code(tmp_path).of(values)[ENTRY])
    assert len(digests) == 1
    for other in ("x = 1  # é\n\ny = 3\n", "x = 2  # é\n\ny = 2\n"):
        assert imports.read(other.encode()).digest not in digests


@pytest.mark.parametrize(
    "text, why",
    [
        ("from . import a", "relative or starred"),
        ("from gpt2.a import *", "relative or starred"),
        ("def f(:", "is not Python"),
        ("x = '\0'", "is not Python"),
        ("CHOSEN = {}\nCHOSEN = {}", "stands once"),
        ("if 1:\n    CHOSEN = {}", "stands once"),
        ("CHOSEN: dict = {}", "stands once"),
        ("CHOSEN = {}\nCHOSEN |= {}", "stands once"),
        ("CHOSEN = dict()", "no literal"),
        ("CHOSEN = ('gpt2.a',)", "no dict"),
        ("CHOSEN = {'gpt2.a': 'A'}", "MODULE: (CONDITION"),
        ("CHOSEN = {'gpt2.a': ('a',)}", "'a' is no condition"),
        ("CHOSEN = {'gpt2.a': ('A < 1',)}", "'A < 1' is no condition"),
        ("CHOSEN = {'gpt2.a': ('A',)}", "names A, which is no symbol"),
        ("CHOSEN = {'gpt2.none': ('YES',)}", "no module gpt2.none below"),
        ("CHOSEN = {'records.r': ('YES',)}", "no module records.r below"),
        ("CHOSEN = {'gpt2.a': ('YES',)}\nimport gpt2.a", "imports gpt2.a always"),
        ("CHOSEN = {'gpt2.a': ()}\nfrom gpt2.a import x", "imports gpt2.a.x always"),
        (
            "CHOSEN = {'gpt2.a': ()}\nclass A:\n    from gpt2 import a",
            "imports gpt2.a always",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(tmp_path, text, why):
    start(tmp_path, text, gpt2_a="", records_r="")
    with pytest.raises(CodeError) as refused:
        counted(tmp_path, YES=True)
    assert str(refused.value).startswith(f"{ENTRY}: ") and why in str(refused.value)


def test_a_tree_without_the_entry_is_refused(tmp_path):
    with pytest.raises(CodeError, match="no module gpt2.train_ra_mla below"):
        Code(tmp_path).of({})


def test_contents_and_paths_count_and_nothing_else(tmp_path):
    start(tmp_path, "import gpt2.a", gpt2_a="x = 1\n")
    before = combined(Code(tmp_path).of({}))
    (tmp_path / "gpt2/a.py").touch()
    (tmp_path / "gpt2/a.py").chmod(0o755)
    write(tmp_path, gpt2_idle="x = 1\n")
    assert combined(Code(tmp_path).of({})) == before
    (tmp_path / "gpt2/a.py").write_text("x = 1\n#\n")
    edited = combined(Code(tmp_path).of({}))
    assert edited != before
    (tmp_path / "gpt2/a.py").write_text("x = 1\n")
    assert combined(Code(tmp_path).of({})) == before
    (tmp_path / "gpt2/a").mkdir()
    (tmp_path / "gpt2/a.py").rename(tmp_path / "gpt2/a/__init__.py")
    assert combined(Code(tmp_path).of({})) not in (before, edited)
