"""Without a .config every command that works on one refuses in the same words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_make import NEEDED, RULES, Door

ROOT = Path(__file__).resolve().parent.parent
WORDS = ".config: is not there: make defconfig-NAME or make menuconfig writes it\n"
# Targets that work without a configuration, or make one.
EXEMPT = """
    anchor aot bench bench-compare chaos check-all clean compare compare-commits
    defconfig-toy diffconfig distclean doctor eval export fix-style generate gpu-test
    gpus help list-defconfigs list-mutants lock menuconfig mrproper new-study publish-check
    quickstart setup style test test-mutants test-slow
""".split()


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Door:
    return Door(tmp_path_factory.mktemp("door"))


@pytest.mark.parametrize("target", sorted(RULES.keys() - set(EXEMPT)))
def test_every_target_refuses_alike(door, target):
    given = dict(NEEDED.get(target, {}))
    given |= {"BASE_PYTHON": str(door.python)}  # which would make a .venv of nothing
    calls = door.make(target, python=False, configured=False, **given)
    assert calls == [] and not (door.root / ".venv").exists()
    assert door.done.returncode == 2
    assert door.done.stderr.decode().startswith(f"error: {WORDS}make: *** ")
    named = {"KCONFIG_CONFIG": "an other.config", **given}
    assert door.make(target, **named) == []
    assert f"error: an other{WORDS}".encode() in door.done.stderr


@pytest.mark.parametrize("target", EXEMPT)
def test_the_others_do_not_ask(door, target):
    (door.root / "t").touch()
    given = NEEDED.get(target, {})
    door.make(target, configured=False, **given)
    assert door.done.returncode == 0, door.done.stderr


@pytest.mark.parametrize("target", ["watch", "sync"])
def test_a_study_that_is_named_needs_no_configuration(door, target):
    assert len(door.make(target, configured=False, STUDY="s")) == 1


SCRIPTS = [
    ("run_test_matrix.py", "plan"),
    ("run_test_matrix.py", "verdict"),
    ("make_report.py",),
    ("prepare_data.py",),
    ("kconfig.py", "show", "1"),
    ("watch.py",),
    ("sync_trackers.py",),
]


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_so_do_the_scripts(tmp_path, words):
    path = tmp_path / ".config"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / words[0], *words[1:]],
        env={**os.environ, "KCONFIG_CONFIG": str(path), "TRACKER": "wandb"},
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode in (1, 2) and done.stdout == b""
    line = done.stderr.decode().splitlines(keepends=True)[
        -1
    ]  # after "importing scipy …"
    assert line.removeprefix("error: ") == f"{tmp_path}/{WORDS}"
