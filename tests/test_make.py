"""What a user gives `make` reaches the scripts as it was typed, and runs nowhere.

The recipes run in a copy of the front door alone, with a python that only records
its arguments and its environment.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kconf.overrides import TABLE

ROOT = Path(__file__).resolve().parent.parent
FILES = ("Makefile", "Makefile.kconfig", "Makefile.variables")
TEXT = "".join((ROOT / name).read_text() for name in FILES)
KCONFIGS = [ROOT / "Kconfig"]
KCONFIGS += [
    path for room in ("gpt2", "matrix") for path in (ROOT / room).rglob("Kconfig")
]

RECORDER = """\
#!/bin/sh
[ "$1 $2" != "-m venv" ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }
{ printf '%s\\0' "$#" "$@" && env -0 && printf '\\0'; } >>"$RECORD"
"""
HOSTILE = {
    "apostrophe": "a'; touch p; '",
    "quotation mark": 'a"; touch p; "',
    "make": "a $(shell touch p)${shell touch p}",
    "backtick": "a `touch p`",
    "number sign": "a # b \\# c $$ %",
    "newline": "a\ntouch p\n\ttouch p\n",
    "substitution": "$$(touch p) $(touch p) ; touch p & touch p | touch p",
}
"""Kinds of text that a shell or make would take for something else."""

# What a recipe cannot do without; every other variable is tried alone.
NEEDED = {
    "generate": {"RUN": "r"},
    "export": {"RUN": "r"},
    "compare-commits": {"OLD": "o", "NEW": "n"},
    "compare": {"A": "a", "B": "b"},
    "anchor": {"TEXT": "t"},
    "publish-check": {"STUDY": "s"},
    "new-study": {"NAME": "n", "FROM": "f"},
    "show": {"ARMS": "x"},
}
# Read by make or by a script where it is looked at, and no word of a command.
SWITCHES = {"JSON", "FULL", "ARGS", "STAGE"}
# Names that mean something to make. Not MAKEFLAGS, MAKEFILES, MAKEOVERRIDES: these
# are make's own language, and so are NAME:=, NAME!= and what stands in a NAME.
MAKES = (
    "SHELL .SHELLFLAGS MAKE MAKE_COMMAND MAKEFILE_LIST MAKECMDGOALS "
    "MFLAGS MAKELEVEL CURDIR VPATH GPATH SUFFIXES .VARIABLES .DEFAULT_GOAL .FEATURES "
    ".RECIPEPREFIX .LIBPATTERNS .INCLUDE_DIRS 1 2 v .v @ * <"
).split()

each_hostile = pytest.mark.parametrize("kind", HOSTILE)


class Door:
    """The front door in a directory of its own."""

    def __init__(self, root: Path):
        self.root, self.record = root / "tree", root / "record"
        self.python = root / 'it\'s; touch p; $(touch p) "`touch p`" #' / "python"
        self.python.parent.mkdir(parents=True)
        kconfigs = [str(path.relative_to(ROOT)) for path in KCONFIGS]
        for name in (*FILES, "scripts/help.awk", *map(str, requirements()), *kconfigs):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        for name in ("defconfigs/toy.d", "defconfigs/fragments"):
            (self.root / name).mkdir(parents=True)
        for name in ("defconfigs/toy", "defconfigs/fragments/tiny.config"):
            (self.root / name).touch()
        self.python.write_text(RECORDER)
        self.python.chmod(0o755)

    def make(
        self,
        *words: str,
        python: bool = True,
        configured: bool = True,
        **variables: str,
    ) -> list:
        """[(arguments, environment)] of every python that make started."""
        self.record.write_bytes(b"")
        if configured:
            (self.root / ".config").touch()
        else:
            (self.root / ".config").unlink(missing_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "HOME")}
        given = {"PYTHON": str(self.python)} if python else {}
        environment = {**kept, **given, **variables, "RECORD": str(self.record)}
        self.done = subprocess.run(
            ["make", *words], cwd=self.root, env=environment, capture_output=True
        )
        ran = self.root / "p"
        if ran.exists():
            ran.unlink()
            pytest.fail(f"ran: make {words}, {variables}")
        return list(self._calls())

    def _calls(self):
        rest = self.record.read_text().split("\0")
        while rest[0]:
            count = int(rest[0])
            arguments, rest = rest[1 : count + 1], rest[count + 1 :]
            end = rest.index("")
            yield arguments, dict(pair.split("=", 1) for pair in rest[:end])
            rest = rest[end + 1 :]


def requirements() -> list[Path]:
    return [path.relative_to(ROOT) for path in ROOT.glob("requirements*.txt")]


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    return Door(tmp_path_factory.mktemp("door"))


def rules() -> dict[str, str]:
    """Target -> its recipe, `$(call option,NAME,flag)` written out."""
    text = re.sub(r"\$\(call option,(\w+),[\w-]+\)", r'$${\1:+"$$\1"}', TEXT)
    text = text.replace("\\\n", " ")
    found = re.findall(r"^([a-z][\w.-]*):.*\n((?:\t.*\n)+)", text, re.M)
    return {**dict(found), "defconfig-toy": ""}


RULES = rules()
OURS = set(re.findall(r"^override (?:export )?([\w.%]+) :?=", TEXT, re.M))
TABLES = ("takes.", "meant.", "advice.", "goal.", "needs.")


def table(name: str) -> dict[str, str]:
    """A table of Makefile.variables, `$(planning)` written out."""
    text = re.sub(r"[ \t]*##.*", "", TEXT)
    lists = dict(re.findall(r"^override (planning|configured) := (.*)$", text, re.M))
    found = dict(re.findall(rf"^override {name}\.(\S+) :=(.*)$", text, re.M))
    for group in ("configured", "planning"):
        for key, value in found.items():
            found[key] = value.replace(f"$({group})", lists[group]).strip()
    return found


TAKES = {name: value.split() for name, value in table("takes").items()}
MISTAKES = {word: meant for word, meant in table("meant").items() if word != "STEPS"}


def taken(target: str) -> set[str]:
    """The variables that a target takes; of all symbols CONFIG_SEEDS."""
    names = {name for name, targets in TAKES.items() if {target, "%"} & {*targets}}
    return {name.replace("CONFIG_%", "CONFIG_SEEDS") for name in names}


def refused(target: str) -> set[str]:
    """The exported names that are mistakes for this target."""
    mine = taken(target)
    known = {**MISTAKES, "LR": "CONFIG_SEEDS"}
    return {word for word, meant in known.items() if meant in mine} - mine


def spoken(recipe: str) -> list[str]:
    """The user's variables that a recipe names."""
    names = re.findall(r"\$\$\{?([A-Z_]+)|\$\(value (\w+)\)", recipe)
    return sorted({one or other for one, other in names} - {"PYTHON"})


def test_the_rules_are_found():
    assert {"all", "generate", "aot", "help", "config.py", "show"} <= RULES.keys()
    listed = re.findall(r"^([a-z][\w.-]*):.*##", TEXT, re.M)
    assert set(listed) - {"all", "setup"} <= RULES.keys() and len(listed) > 40
    assert spoken(RULES["compare"]) == ["A", "B"] and spoken(RULES["all"]) == []
    assert len(spoken(RULES["generate"])) == 11


# -- by reading ---------------------------------------------------------------

FUNCTIONS = {"if", "or", "and", "call", "value", "filter", "filter-out", "error"}
FUNCTIONS |= {"foreach", "origin", "findstring", "eval", "wildcard", "notdir"}
FUNCTIONS |= {
    "basename",
    "addprefix",
    "addsuffix",
    "firstword",
    "patsubst",
    "sort",
    "strip",
}
LOCAL = {"@", "1", "2", ".v", ".g", "name"}


SHELL = (
    "$(shell awk '$$1 ~ /^(menu)?config$$/ { name = $$2 } "
    "$$1 ~ /^\\[($(1))\\]$$/ { print name }' $(kconfigs)))"
)


def test_make_expands_no_variable_of_a_user():
    """Every $(NAME) is ours, and nobody but us can set it."""
    plain = re.sub(r"^#.*|\$\$", "", TEXT, flags=re.M)
    plain = plain.replace("override export DEFCONFIG = $*", "")
    used = re.findall(r"\$[({]([^\s(){}$,:]+)|\$([^({])", plain)
    names = {one or other for one, other in used}
    assert {"PY", "Q", "SETUP"} <= names and "option" in OURS
    assert names - FUNCTIONS - LOCAL - {".VARIABLES", "shell", *TABLES} <= OURS
    assert re.findall(r"\$\(shell .*", TEXT) == [SHELL], "a user's name in a command"
    assert {*re.findall(r"\$\(call symbols,(.*?)\)", plain)} == {
        "identity",
        "identity|operational",
    }


def test_the_values_that_make_asks_for_are_only_compared():
    """$(value NAME) is the condition of an `if`, or what ours is built from."""
    rest = re.sub(r"^#.*", "", TEXT, flags=re.M).replace("$$(value $(.v))", "")
    name = r"\$\(value \w+\)"
    for allowed in (
        rf"\$\(if (?:{name})+,",
        rf"\$\(if \$\((?:filter y|and) ?,(?:{name},?)+\),",
        rf"\$\(if \$\(and (?:{name},?)+\),",
        rf"ifeq \({name},1\)",
        rf"\$\(filter 0,{name}\)",
        rf"\$\(or {name},all\)",
        r"override given = \$\(and .*,\$\(value \$\(1\)\)\)$",
    ):
        rest = re.sub(allowed, "", rest, flags=re.M)
    assert "(value" not in rest


def test_the_shell_sees_the_values_in_quotes():
    """ "$$NAME", or ${NAME:+--word}, in every recipe."""
    for target, recipe in RULES.items():
        bare = re.sub(r'"[^"]*"|\'[^\']*\'', "", recipe)
        bare = re.sub(r"\$\$\{\w+:\+(--\w+)?\}", "", bare)
        assert "$$" not in bare, target


# -- by running ---------------------------------------------------------------


def arrived(calls: list, name: str, value: str, in_words: bool) -> None:
    """In the environment of every python, and in the words of one of them."""
    assert calls and all(there[name] == value for _, there in calls)
    words = [word for arguments, _ in calls for word in arguments]
    if in_words:
        assert any(word == value or word.endswith(f"={value}") for word in words)


@each_hostile
@pytest.mark.parametrize("target", RULES)
def test_what_is_typed_arrives(door, target, kind):
    """Each variable of the target, on the command line and in the environment."""
    for name in spoken(RULES[target]):
        value = f"{name} {HOSTILE[kind]}"
        (door.root / value).touch()  # where it is TEXT=, a file that must be there
        given = NEEDED.get(target, {}) | {name: value}
        if name == "STEP":
            given.pop("ARMS", None)
        words = [f"{key}={text}" for key, text in given.items()]
        arrived(door.make(target, *words), name, value, name not in SWITCHES)
        arrived(door.make(target, **given), name, value, name not in SWITCHES)


@each_hostile
@pytest.mark.parametrize("target", RULES)
def test_everything_at_once(door, target, kind):
    """On the command line what the target takes; in the environment what any does."""
    every = {name.replace("CONFIG_%", "CONFIG_SEEDS") for name in TAKES} | {"FOO"}
    for names, typed in ((taken(target), True), (every - refused(target), False)):
        names -= {"PYTHON", "BASE_PYTHON"}
        given = {name: f"{name} {HOSTILE[kind]}" for name in names}
        for name in names & {"TEXT", "KCONFIG_CONFIG"}:
            (door.root / given[name]).touch()
        words = [f"{name}={value}" for name, value in given.items()]
        calls = door.make(target, *words) if typed else door.make(target, **given)
        assert door.done.returncode == 0, door.done.stderr
        for _, there in calls:
            assert {name: there[name] for name in names - {"STEPS", "STAGE"}} == {
                name: given[name] for name in names - {"STEPS", "STAGE"}
            }
            listed = there["COMMAND_LINE_VARIABLES"].split()
            assert {*listed} == (names if typed else set())


@each_hostile
def test_the_name_of_a_defconfig_arrives(door, kind):
    name = f"toy{HOSTILE[kind]}"
    calls = door.make("-e", f"defconfig-{name}", DEFCONFIG="other")
    assert [words for words, _ in calls] == [
        ["scripts/kconfig.py", "defconfig", "--", name]
    ]


@each_hostile
def test_no_name_of_ours_or_of_make_is_taken(door, kind):
    """Q=…, PY=…, SHELL=…: what the recipes are built from stays what it is."""
    plain = [words for words, _ in door.make("quickstart")]
    assert len(plain) == 5
    tables = {name for name in OURS if name.startswith(TABLES)}
    assert len(tables) > 70
    for names in (*({name} for name in (*(OURS - tables), *MAKES)), tables):
        given = {name: HOSTILE[kind] for name in names}
        calls = door.make("quickstart", *(f"{n}={v}" for n, v in given.items()))
        assert not calls if names != {".v"} else calls, names
        for words in (["quickstart"], ["-e", "quickstart"]):
            calls = door.make(*words, **given)
            assert [words for words, _ in calls] == plain, names


@each_hostile
def test_what_sets_up_the_environment(door, kind):
    """BASE_PYTHON is one program, TORCH_INDEX one word, .venv is made from them."""
    given = {"BASE_PYTHON": str(door.python), "TORCH_INDEX": HOSTILE[kind]}
    for words, there in (([f"{k}={v}" for k, v in given.items()], {}), ([], given)):
        shutil.rmtree(door.root / ".venv", ignore_errors=True)
        calls = door.make("setup", *words, python=False, **there)
        assert door.done.returncode == 0, door.done.stderr
        assert calls[1][0] == ["-m", "venv", ".venv"]
        assert f"--index-url={HOSTILE[kind]}" in calls[2][0]
    absent = f"absent {HOSTILE[kind]}"
    shutil.rmtree(door.root / ".venv")
    door.make("setup", f"BASE_PYTHON={absent}", python=False)
    assert door.done.returncode == 2


@each_hostile
def test_a_make_within_make(door, kind):
    """What is passed on (MAKEFLAGS) is read by the same rule."""
    inner = door.root / "inner"
    inner.write_text('#!/bin/sh\nexec make PYTHON="$OUTER" plan\n')
    inner.chmod(0o755)
    words = [f"PYTHON={inner}", f"ARMS={HOSTILE[kind]}"]
    calls = door.make("check", *words, OUTER=str(door.python))
    arrived(calls, "ARMS", HOSTILE[kind], False)


RULE = next(line for line in TEXT.splitlines() if line.startswith("$(foreach .v"))
SABOTAGE = {
    "no rule": (RULE, "", ["help", "V=$(shell touch p)"], {}),
    "expanded": ('"$$RUN"', "'$(RUN)'", ["export", "RUN=a'; touch p; '"], {}),
    "asked for": ("$(value RUN)", "$(RUN)", ["export"], {"RUN": "$(shell touch p)"}),
    "unquoted": ('"$$TEXT"', "$$TEXT", ["anchor", "TEXT=a b"], {}),
    "goal": ('"$$DEFCONFIG"', "'$*'", ["defconfig-x'; touch p; '"], {}),
    "name": ("override Q := @", "Q := @", ["-e", "check"], {"Q": "touch p;"}),
    "mistake": ("$(value $(1))", "$($(1))", ["check"], {"SEED": "$(shell touch p)"}),
    "goals": (
        "$(value MAKECMDGOALS)",
        "$(MAKECMDGOALS)",
        ["help"],
        {"MAKECMDGOALS": "$(shell touch p)"},
    ),
    "path": ("override VPATH :=", "", ["help"], {"VPATH": "$(shell touch p)"}),
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_a_front_door_that_is_open_is_noticed(tmp_path, how):
    """Each guard taken away once: what it kept out runs, or arrives in pieces."""
    old, new, words, there = SABOTAGE[how]
    door = Door(tmp_path)
    door.make(*words, **there)
    for path in map(door.root.joinpath, FILES):
        path.write_text(path.read_text().replace(old, new))
    if how == "unquoted":
        assert "a b" not in door.make(*words)[0][0]
        return
    with pytest.raises(pytest.fail.Exception, match="ran: make"):
        door.make(*words, **there)


def test_args_are_words(tmp_path):
    """As a shell splits them, with nothing run and nothing expanded."""
    script = [str(ROOT / "scripts" / "with_args.py"), "-c"]
    show = "import sys; print(sys.argv[1:])"

    def said(text: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [os.sys.executable, *script, show, "first"],
            env={**os.environ, "ARGS": text},
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    quoted = said("-k 'one or two' \"a b\" c\\ d * $(touch p) `touch p` ; touch p\n#x")
    words = ["first", "-k", "one or two", "a b", "c d", "*", "$(touch", "p)"]
    words += ["`touch", "p`", ";", "touch", "p", "#x"]
    assert quoted.stdout == f"{words}\n" and not list(tmp_path.iterdir())
    assert said("").stdout == "['first']\n"
    refused = said("a 'b")
    assert refused.returncode == 2
    assert refused.stderr == "ARGS=a 'b: No closing quotation\n"
