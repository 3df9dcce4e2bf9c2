"""What is installed is pinned, with the hashes of its files, from any index."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
BY_HAND = {"requirements-torch.txt", "requirements-slow.txt"}
LOCKED = sorted({path.name for path in ROOT.glob("requirements*.txt")} - BY_HAND)
PACKAGE = re.compile(r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(\S+)( ; [^;\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def file_of(group: str) -> str:
    return "requirements.txt" if group == "base" else f"requirements-{group}.txt"


def packages(name: str) -> dict[str, list[str]]:
    """Package -> its versions, in this file and those it includes."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := PACKAGE.fullmatch(line):
            found.setdefault(match[1], []).append(match[2])
        elif line.startswith("-r "):
            found |= packages(line.removeprefix("-r "))
    return found


def test_there_is_a_file_for_every_group():
    assert LOCKED == sorted(map(file_of, GROUPS))


@pytest.mark.parametrize("name", LOCKED)
def test_every_line_is_a_pin_or_a_hash(name):
    """No address, no option, no path; a package is followed by its hashes."""
    lines = (ROOT / name).read_text().splitlines()
    assert lines[0].startswith("# Written by `make lock`")
    rest = lines[2:] if lines[1] == "-r requirements.txt" else lines[1:]
    for line, after in zip(rest, [*rest[1:], ""]):
        match = PACKAGE.fullmatch(line) or HASH.fullmatch(line)
        assert match, line
        assert bool(HASH.fullmatch(after)) == line.endswith("\\"), line


@pytest.mark.parametrize("group", GROUPS)
def test_a_file_holds_what_its_group_asks_for(group):
    found = packages(file_of(group))
    for wanted in GROUPS[group]:
        if isinstance(wanted, str):
            name, version = wanted.partition(";")[0].split("==")
            assert found[name] == [version]
    assert "torch" not in found, "its files depend on the index"


def test_the_files_agree():
    """Each package has one set of versions: any two extras go into one .venv."""
    found: dict[str, set[frozenset[str]]] = {}
    for name in LOCKED:
        for package, versions in packages(name).items():
            found.setdefault(package, set()).add(frozenset(versions))
    assert not {name: kinds for name, kinds in found.items() if len(kinds) > 1}


def test_make_asks_for_the_hashes():
    """--require-hashes for every file that has them, and for no other."""
    text = (ROOT / "Makefile").read_text()
    extras = re.search(r"^override EXTRAS := (.*)", text, re.M)[1].split()
    assert sorted(extras) == sorted(GROUPS.keys() - {"base", "test"})
    asked = re.findall(r"INSTALL\) --require-hashes (.*)", text)
    files = ["requirements.txt", "requirements-test.txt", "requirements-%.txt"]
    assert [re.search(r"[\w-]*%?\.txt", line)[0] for line in asked] == files
    for name in BY_HAND:
        assert not HASH.search((ROOT / name).read_text())
