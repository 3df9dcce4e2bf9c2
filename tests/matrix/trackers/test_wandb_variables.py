"""W&B's own variables: what each means, which wins, what is said and recorded."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from kconf.overrides import Overrides, from_environment
from kconf.strict import Tree
from matrix.published.run import PublishedError
from matrix.published.selection import Query
from matrix.published.sources import fetch
from matrix.settings import study_settings
from matrix.trackers.mirror_process import MirrorProcess
from matrix.trackers.session import CURRENT, OPEN, Session, note, state
from matrix.trackers.sink import targets
from matrix.trackers.sync import sync
from matrix.trackers.target import Target, TrackerError
from matrix.trackers.wandb_variables import decide
from tests.matrix.synthetic import Cell
from tests.matrix.trackers.test_mirror import FakeSink

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def decided():
    """decided(environment, SYMBOL=value…): what becomes of a configuration."""
    tree = Tree(ROOT)

    def make(environment: dict, **symbols: str):
        file = Overrides({"TRACKER": "wandb", **symbols})
        values = tree.resolve([file, from_environment(environment)]).values
        return decide(study_settings(values), environment)

    return make


@pytest.mark.parametrize(
    "environment, mode, said",
    [
        ({}, "online", None),
        ({"WANDB_MODE": ""}, "online", None),
        ({"WANDB_MODE": "online"}, "online", None),
        ({"WANDB_MODE": "run"}, "online", None),
        ({"WANDB_MODE": "offline"}, "offline", "mode by WANDB_MODE=offline, not"),
        ({"WANDB_MODE": "dryrun"}, "offline", "mode by WANDB_MODE=dryrun, not"),
        ({"WANDB_MODE": "disabled"}, None, "no mirror, as WANDB_MODE=disabled"),
        ({"WANDB_DISABLED": "true"}, None, "no mirror, as WANDB_DISABLED=true"),
        ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, None, "WANDB_DISABLED=1"),
        ({"WANDB_DISABLED": "False"}, "online", None),
        (
            {"WANDB_MODE": "offline", "CONFIG_WANDB_MODE": "online"},
            "online",
            "CONFIG_WANDB_MODE=online beats WANDB_MODE=offline",
        ),
        (
            {"WANDB_DISABLED": "yes", "CONFIG_WANDB_MODE": "offline"},
            "offline",
            "CONFIG_WANDB_MODE=offline beats WANDB_DISABLED=yes",
        ),
        (
            {"WANDB_MODE": "sometimes", "CONFIG_WANDB_MODE": "offline"},
            "offline",
            "CONFIG_WANDB_MODE=offline beats WANDB_MODE=sometimes",
        ),
        ({"WANDB_MODE": "dryrun", "CONFIG_WANDB_MODE": "offline"}, "offline", None),
    ],
)
def test_the_mode(decided, environment, mode, said):
    found = decided(environment)
    assert (found.target.mode if found.target else None) == mode
    assert len(found.notes) == (said is not None)
    assert said is None or said in found.notes[0]


def test_a_variable_beats_the_file_and_is_recorded(decided):
    found = decided({"WANDB_MODE": "online"}, WANDB_MODE="offline")
    assert found.target.mode == "online"
    assert found.target.by == {"mode": "WANDB_MODE=online"}
    assert found.notes == (
        "wandb: mode by WANDB_MODE=online, not CONFIG_WANDB_MODE=offline",
    )


def test_project_and_entity(decided):
    given = {"WANDB_PROJECT": "mine", "WANDB_ENTITY": "team"}
    found = decided(given)
    assert (found.target.project, found.target.entity) == ("mine", "team")
    assert found.target.by == {
        "project": "WANDB_PROJECT=mine",
        "entity": "WANDB_ENTITY=team",
    }
    assert found.notes == (
        "wandb: project by WANDB_PROJECT=mine, not CONFIG_TRACKER_PROJECT=kablate",
        'wandb: entity by WANDB_ENTITY=team, not CONFIG_WANDB_ENTITY=""',
    )
    given |= {"CONFIG_TRACKER_PROJECT": "ours", "CONFIG_WANDB_ENTITY": "team"}
    found = decided(given)
    assert (found.target.project, found.target.entity) == ("ours", "team")
    assert found.target.by == {}
    assert found.notes == (
        "wandb: CONFIG_TRACKER_PROJECT=ours beats WANDB_PROJECT=mine",
    )


@pytest.mark.parametrize("value", ["shared", "OFFLINE"])
def test_an_unknown_mode_is_refused_by_name(decided, value):
    with pytest.raises(TrackerError, match=f"WANDB_MODE={value}: is none of online, o"):
        decided({"WANDB_MODE": value})


def test_an_unknown_switch_is_refused_by_name(decided):
    with pytest.raises(TrackerError, match="WANDB_DISABLED=perhaps: set it to true"):
        decided({"WANDB_DISABLED": "perhaps"})


def test_trackio_does_not_hear_of_it():
    tree = Tree(ROOT)
    given = {"WANDB_MODE": "disabled", "WANDB_PROJECT": "mine"}
    for trackers, names in (("wandb,trackio", ["trackio"]), ("trackio", ["trackio"])):
        values = tree.resolve([Overrides({"TRACKER": trackers})]).values
        found, notes = targets(study_settings(values), given)
        assert [(t.tracker, t.project) for t in found] == [("trackio", "kablate")]
        assert len(notes) == (trackers != "trackio")
    values = tree.resolve([Overrides({"TRACKER": "none"})]).values
    assert targets(study_settings(values), {"WANDB_MODE": "shared"}) == ([], ())


def test_what_decided_is_noted_and_no_reason_to_send_again(tmp_path):
    path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
    held: dict = {}
    said: list[str] = []
    for by in ({"mode": "WANDB_MODE=dryrun"}, {}):
        target = Target("wandb", "kablate", "", "offline", by)

        def begin(*arguments, **options):
            return Session(*arguments, **options, make=lambda _: FakeSink(held))

        assert sync(tmp_path / "demo", [target], {}, said.append, begin) == 0
        assert state(path, "wandb")["by"] == {"mode": "WANDB_MODE=dryrun"}
    assert [line.split("  ")[-1] for line in said] == ["3 rows", "is there already"]


def test_the_mirror_is_told_in_words_alone(monkeypatch):
    """W&B would obey a variable that has been beaten."""
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.setenv(name, "x")
    program = "import os, sys; sys.stdin.read()\n"
    program += "print([n for n in os.environ if n.startswith('WANDB_')])"
    target = Target("wandb", "kablate", "", "online", {})
    monkeypatch.setenv("WANDB_API_KEY", "kept")
    monkeypatch.setattr(MirrorProcess, "_read", lambda self: None)
    beside = MirrorProcess(target, (sys.executable, "-c", program))
    beside.close()
    assert beside.process.stdout.read() == "['WANDB_API_KEY']\n"
    beside.process.wait()


def test_the_server_is_not_read_from(monkeypatch):
    for name, value in (("WANDB_MODE", "dryrun"), ("WANDB_DISABLED", "true")):
        monkeypatch.setenv(name, value)
        with pytest.raises(PublishedError, match=f"{name}={value}: W&B's server is"):
            fetch(Query("wandb"))


class TestMake:
    """By the runner, with the package there or not."""

    @pytest.fixture
    def installed(self, monkeypatch):
        """installed(name…): these packages are there, no other."""

        def there(*names: str) -> None:
            def distribution(name: str):
                if name not in names:
                    raise metadata.PackageNotFoundError(name)

            monkeypatch.setattr(metadata, "distribution", distribution)

        there()
        return there

    def test_nothing_to_start_needs_no_package(self, checkout, installed):
        assert checkout.run()[0] == 0
        status, output = checkout.run(TRACKER="wandb")
        assert status == 0 and "wandb: no cell is to be run, none is mirrored" in output
        assert f"results: {checkout.root}" in output
        cell = next(iter(checkout.cells.values()))
        target = Target("wandb", "kablate", "", "online")
        note(cell.dir.path, target, state=CURRENT)
        assert "wandb: no cell is to be run" in checkout.run(TRACKER="wandb")[1]
        note(cell.dir.path, target, state=OPEN)
        status, output = checkout.run(TRACKER="wandb")
        assert status == 0 and "wandb: mirrors were left open, and the pack" in output
        assert "requirements-wandb.txt" in output

    def test_a_mode_is_said_by_the_plan_and_recorded(self, checkout, monkeypatch):
        for name, value in (("WANDB_MODE", "disabled"), ("TRACKER", "wandb")):
            monkeypatch.setenv(name, value)
        given = {"WANDB_MODE": "disabled", "TRACKER": "wandb"}
        status, output = checkout.run("plan", **given)
        assert status == 0 and "wandb: no mirror, as WANDB_MODE=disabled" in output
        status, output = checkout.run(**given)
        assert status == 0 and output.count("wandb: no mirror") == 1
        for record in checkout.cells.values():
            assert record.run["provenance"]["environment"]["WANDB_MODE"] == "disabled"
            assert not (record.dir.path / "mirror").exists()

    def test_an_unknown_mode_stops_before_the_first_cell(self, checkout):
        for command in ("plan", "run"):
            status, output = checkout.run(command, TRACKER="wandb", WANDB_MODE="maybe")
            assert status == 2 and "error: WANDB_MODE=maybe: is none of" in output
        assert checkout.cells == {}


def sync_script(**given: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "sync_trackers.py", "toy"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
    )


def test_sync_sends_nothing_where_wandb_is_disabled(tmp_path):
    given = {"KCONFIG_CONFIG": str(tmp_path / "none"), "TRACKER": "wandb"}
    done = sync_script(**given, WANDB_DISABLED="true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "error: wandb: no mirror, as WANDB_DISABLED=true: nothing is sent\n"
    )
    done = sync_script(**given, WANDB_MODE="nightly")
    assert done.returncode == 1 and "WANDB_MODE=nightly: is none of" in done.stderr
