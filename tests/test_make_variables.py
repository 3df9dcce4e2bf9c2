"""What make refuses before anything is set up, and the one table that says so."""

import re
import shlex

import pytest

from kconf.overrides import MEANT, OTHERS, TABLE
from tests.test_make import MISTAKES, ROOT, RULES, TAKES, TEXT, Door, spoken, taken
from tests.test_make import door  # noqa: F401, a fixture

READ = {
    "data-smoke": set(),
    "rerun": {"ALL", "DRY_RUN"},
    "all": {"LOOK", "DRY_RUN"},
    "watch": {"ONCE", "OUTPUT"},
    "verdict": {"STEP"},
    "chaos": {"FAULTS", "SEED"},
    "test-mutants": {"MUTANTS", "WORKERS"},
    "list-mutants": {"MUTANTS"},
    "anchor": {"DEVICE", "OUTPUT", "JOBS", "TRACKER", "MAX_ITERS", "TIME"},
    "sync": {"TRACKER", "OUTPUT"},
    "aot": {"JOBS"},
    "check": {"ARMS", "AXES", "MAX_ITERS", "TIME"},
    **{name: {"ARGS"} for name in ("test", "test-slow", "gpu-test", "bench")},
    **{name: {"OUTPUT"} for name in ("generate", "export", "eval", "compare")},
    "publish-check": {"OUTPUT"},
    **{name: {"DRY_RUN"} for name in ("plan", "continue", "tune", "ladder")},
    "quickstart": {"DRY_RUN"},
}
"""What the scripts of a target read in the environment, beside TABLE where it plans."""
GENERAL = {"KCONFIG_CONFIG", "PYTHON", "BASE_PYTHON", "TORCH_INDEX", "V"}
GENERAL |= {"__BASH_MAKE_COMPLETION__"}
# Of other programs: what starts them has their names from the environment.
GENERAL |= {"WANDB_MODE", "WANDB_DISABLED", "WANDB_PROJECT", "WANDB_ENTITY"}
GENERAL |= {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "NO_COLOR"}
GENERAL |= {f"{name}_VISIBLE_DEVICES" for name in ("CUDA", "HIP", "ROCR")}

# (words, environment) and what the refusal says.
REFUSED = [
    (["generate"], {}, "make generate needs a run: make generate RUN=newest"),
    (["generate", "RUN="], {}, "make generate needs a run"),
    (["export", "FORMAT=hf"], {}, "make export needs a run"),
    (["plan", "anchor"], {}, "make anchor needs a text"),
    (["compare", "A=x"], {"B": ""}, "make compare needs two studies, steps or runs"),
    (["publish-check"], {}, "make publish-check needs a study"),
    (["compare-commits", "OLD=x"], {}, "make compare-commits needs two commits"),
    (["new-study", "NAME=x"], {}, "make new-study needs a name and a base"),
    (["show"], {}, "make show needs a step"),
    (["LEARNING_RATE=1e-3"], {}, "write CONFIG_LEARNING_RATE="),
    ([], {"LEARNING_RATE": "1e-3"}, "write CONFIG_LEARNING_RATE= (or unset"),
    ([], {"BATCH_SIZE": "8"}, "write CONFIG_BATCH_SIZE="),
    (["-e"], {"BATCH_SIZE": "8"}, "write CONFIG_BATCH_SIZE="),
    (["WINDOW=80"], {}, "write CONFIG_WINDOW="),
    (["LOG_INTERVAL=1"], {}, "write CONFIG_LOG_INTERVAL="),
    (["SEED=2"], {}, "SEED=: make all does not take it; write SEEDS=."),
    ([], {"SEED": "2"}, "write SEEDS= (or unset SEED"),
    (["check", "all", "STEP=2"], {}, "write STEPS="),
    (["check", "STEPS=2"], {}, "make check does not take it; write STEP="),
    (["plan"], {"LR": "1e-3"}, "write CONFIG_LEARNING_RATE="),
    (["data"], {"LR": "1e-3"}, "write CONFIG_LEARNING_RATE="),
    (["-j4", "plan", "DRYRUN=1"], {}, "write DRY_RUN="),
    (["-n", "plan"], {"DRYRUN": "1"}, "write DRY_RUN="),
    ([], {"SMALEST": "0.1"}, "write SMALLEST="),
    (["plan", "STUDY=toy"], {}, "make defconfig-NAME loads a study"),
    (["CONFIG=a"], {}, "KCONFIG_CONFIG=FILE"),
    (["doctor", "SEED=2"], {}, "it belongs to make chaos eval generate"),
    (["data", "MAX_ITERS=2"], {}, "make data does not take it; it belongs to make all"),
    (["defconfig-toy", "CONFIG_MLA=y"], {}, "one-shots are not written to .config"),
    (["defconfig-toy", "SEEDS=1"], {}, "make defconfig-toy does not take it"),
    (["FOO=1"], {}, "no target does (make help lists what they take"),
    (["a%b=1"], {}, "a%b=: make all does not take it; no target"),
    (["%=1"], {}, "%=: make all does not take it; no target"),
    (["PATH=/bin"], {}, "for other programs: PATH=… make"),
    (["STEPS=1", "FOO:=1"], {}, "FOO=: "),
    (["FOO+=1"], {}, "FOO=: "),
    (["FOO="], {}, "FOO=: "),
    (["MAKELEVEL=1", "V=1"], {}, "MAKELEVEL=: "),
    ([], {"MAKEFLAGS": "FOO=1"}, "FOO=: "),
    (["SEED=2"], {"MAKELEVEL": "1"}, "write SEEDS="),
    (["train"], {}, "make train: no target has that name; make trains"),
    (["data", "train"], {}, "make trains"),
    (["defconfig"], {}, "make defconfig-NAME loads one"),
    (["toy+tiny_defconfig"], {}, "here it is make defconfig-toy+tiny."),
]
ACCEPTED = [
    (["plan", "STEPS=0", "SEEDS=1", "CONFIG_MLA=y", "V=1"], {}),
    (["data", "all", "MAX_ITERS=2"], {}),
    (["check", "verdict", "STEP=2"], {}),
    (["TIME=60"], {}),
    (["__BASH_MAKE_COMPLETION__=1", "-n", "plan"], {}),
    ([], {"WINDOW": "80", "TIME": "%e", "CONFIG": "Release", "STUDY": "x"}),
    ([], {"SLURM_PARTITION": "gpu", "WANDB_MODE": "offline", "LOG_INTERVAL": "1"}),
    ([], {"SEED": "", "LEARNING_RATE": ""}),
    (["check"], {"STEPS": "0", "SEED": "1", "PROMPT": "x"}),
    (["verdict"], {"STEP": "1"}),
    (["doctor"], {"SEED": "1", "LEARNING_RATE": "1", "STEP": "2"}),
    (["list-defconfigs"], {"SEED": "1", "BATCH_SIZE": "1"}),
    (["plan", "FOO=1"], {"MAKELEVEL": "1"}),
    (["plan"], {"MAKELEVEL": "1", "MAKEFLAGS": "w -- FOO=1 CC=gcc"}),
]


@pytest.mark.parametrize("words, there, cause", REFUSED)
def test_what_is_refused_sets_nothing_up(door: Door, words, there, cause):  # noqa: F811
    calls = door.make(*words, python=False, BASE_PYTHON=str(door.python), **there)
    assert calls == [] and not (door.root / ".venv").exists()
    assert door.done.returncode == 2
    (line,) = door.done.stderr.decode().splitlines()
    assert cause in line


@pytest.mark.parametrize("words, there", ACCEPTED)
def test_what_is_none_of_a_slip(door: Door, words, there):  # noqa: F811
    calls = door.make(*words, **there)
    assert door.done.returncode == 0, door.done.stderr
    assert calls or "-n" in words


def test_a_makefile_around_it(door: Door):  # noqa: F811
    """Its own variables pass; what it means for this one is held against the rule."""
    outer = door.root / "outer.mk"
    outer.write_text("x:\n\t@$(MAKE) -f Makefile -C . $(GOALS)\n")
    words = ["-f", str(outer), "x", "FLAVOUR=2"]
    assert door.make(*words, "GOALS=plan SEEDS=1")[0][1]["FLAVOUR"] == "2"
    assert not door.make(*words, "GOALS=plan", "ITERS=2")
    assert b"write MAX_ITERS=" in door.done.stderr


def test_the_table_is_what_the_targets_read():
    """A line per variable that a recipe or its scripts name, and no other."""
    plans = {target for target in RULES if "LOOK" in taken(target)}
    assert plans == {"all"}
    planning = {target for target in RULES if "STAGE" in taken(target)}
    assert {"all", "plan", "report", "verdict", "quickstart"} <= planning
    for target, recipe in RULES.items():
        if target == "defconfig-toy":
            continue
        named = {*spoken(recipe)} - {"TORCH_INDEX", "DEFCONFIG"}
        named |= READ.get(target, set()) | (
            TABLE.keys() if target in planning else set()
        )
        assert taken(target) - GENERAL - {"CONFIG_SEEDS"} == named, target


def test_the_slips_are_those_of_the_scripts():
    assert MEANT == MISTAKES
    foreign = re.search(r"^override foreign := (.*)$", TEXT, re.M)[1].split()
    assert {*OTHERS, "TIME", "STEPS"} == {*foreign}


def test_the_symbols_are_those_of_kconfig(door: Door, tree):  # noqa: F811
    rule = "--eval=x:;@:$(info $(call symbols,%s))"
    door.make(rule % "identity", "x")
    identity = set(door.done.stdout.decode().split())
    assert identity == {*tree.symbols} - tree.operational
    door.make(rule % "identity|operational", "x")
    assert set(door.done.stdout.decode().split()) == {*tree.symbols}


def test_help_lists_every_target_and_variable_in_80_columns(door: Door):  # noqa: F811
    door.make("help")
    lines = door.done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    listed = {line.split()[0] for line in lines if re.match(r"  \S", line)}
    assert {*TAKES} - {"__BASH_MAKE_COMPLETION__"} <= listed
    assert {*re.findall(r"^([a-z][\w.-]*):.*##", TEXT, re.M)} <= listed
    told = " ".join(" ".join(lines).split())
    assert "$(" not in told and "One-shots of all plan estimate" in told
    assert "DEVICE auto, cpu or cuda (also anchor generate eval)" in told


def commands() -> list[str]:
    """Every command line of the documentation that calls make."""
    found = []
    for path in [ROOT / "README.md", ROOT / "CLAUDE.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text()
        found += re.findall(r"^    (?:\$ )?((?:[A-Z_]+=\S+ )*make .*)$", text, re.M)
        found += re.findall(r"`((?:[A-Z_]+=\S+ )*make [^`]*=[^`]*)`", text)
    return [each for each in found if "[" not in each]


def test_the_documentation_types_what_is_taken(door: Door):  # noqa: F811
    assert len(commands()) > 60
    for command in commands():
        for part in re.sub(r"  +.*|#.*", "", command.replace("\n", " ")).split("&&"):
            words = shlex.split(part)
            before = words[: words.index("make")] if "make" in words else []
            there = dict(word.split("=", 1) for word in before)
            door.make("-n", *words[len(before) + 1 :], **there)
            assert b"does not take it" not in door.done.stderr, command
            assert b"no target has" not in door.done.stderr, command
