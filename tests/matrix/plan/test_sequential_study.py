"""A sequential study on the plan of a throw-away checkout: what it runs, look by look."""

import json

import pytest

from kconf.bind import SettingsError
from kconf.strict import ConfigError, Tree
from matrix import evidence_commands
from matrix.evidence import next_runs, preregistration, promotion
from matrix.evidence.gather import gather
from matrix.plan.cells import PlanError
from matrix.plan.selection import recorded
from records import sealed_record
from tests.matrix.conftest import ROOT
from tests.matrix.plan.test_stage import AA, reported, run, study, told

TRUE = {"02-wide": -0.02, "08-hot": 0.0}


@pytest.fixture
def sequential(checkout):
    """A control, two arms and an A/A arm; looks at 6 and 8 of the seeds 11 to 18."""
    checkout.step("01-a-a", AA)
    checkout.base = checkout.base.replace('CONFIG_SEEDS="1-2"\n', "")
    checkout.base += 'CONFIG_DESIGN_SEQUENTIAL=y\nCONFIG_LOOKS="6,8"\n'
    checkout.base += 'CONFIG_CONFIRM_SEEDS="11-18"\nCONFIG_SMALLEST_EFFECT="0.0004"\n'
    checkout.configure()
    return checkout


def due(checkout, **environment) -> set[tuple[str, int]]:
    """(step, seed) of what the next look needs and has not."""
    plan = next_runs.due(checkout.plan(**environment))
    return {(cell.step, cell.seed) for cell in plan.cells if cell.state == "new"}


def take_look(checkout, shifts=TRUE, **environment):
    """Train, as it were, what the next look needs."""
    run(checkout, shifts, next_runs.due, **environment)


def test_the_first_look_takes_six_seeds_of_all(sequential):
    steps = ("00-control", "01-a-a", "02-wide", "08-hot")
    assert due(sequential) == {(step, k) for step in steps for k in range(11, 17)}


def test_the_second_look_goes_on_with_what_lives(sequential):
    take_look(sequential)
    assert due(sequential) == {
        (s, k) for s in ("00-control", "08-hot") for k in (17, 18)
    }
    found = reported(sequential.plan())
    wide, hot = (found.evidence.of(step) for step in ("02-wide", "08-hot"))
    assert wide.label == "SUPPORTED better" and wide.look.early
    assert len(wide.differences) == 6 and wide.look.number == 1
    assert hot.label == "UNRESOLVED" and "goes on" in hot.reasons[0]
    assert [(cell.step, cell.seed) for cell in found.study.open] == [
        (step, seed) for step in ("00-control", "08-hot") for seed in (17, 18)
    ]


def test_a_study_ends_and_nothing_is_due(sequential):
    take_look(sequential)
    take_look(sequential)
    assert due(sequential) == set()
    assert told(sequential.plan())["02-wide"] == "SUPPORTED better"
    assert next_runs.standing(sequential.plan()).progress.over


def test_a_screening_comes_first_and_its_seeds_are_not_judged(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    assert {step for step, _ in due(sequential)} == {"00-control", "02-wide", "08-hot"}
    take_look(sequential)
    plan = sequential.plan()
    assert plan.settings.stage == "screen"
    assert promotion.promote(plan, reported(plan))["promoted"] == ["02-wide"]
    assert due(sequential) == {
        (step, k) for step in ("00-control", "01-a-a", "02-wide") for k in range(11, 17)
    }
    take_look(sequential)
    assert told(sequential.plan()) == {"01-a-a": "A/A", "02-wide": "SUPPORTED better"}


def test_a_named_arm_is_promoted_whatever_it_shows(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.base += 'CONFIG_PROMOTE_NAMED="8"\n'
    sequential.configure()
    take_look(sequential)
    plan = sequential.plan()
    record = promotion.promote(plan, reported(plan))
    assert record["promoted"] == ["02-wide", "08-hot"] and record["named"] == ["08-hot"]


@pytest.mark.parametrize("name", ["0", "1", "7", "wide"])
def test_only_an_arm_can_be_named(sequential, name):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\n'
    sequential.base += f'CONFIG_PROMOTE_NAMED="{name}"\n'
    sequential.configure()
    with pytest.raises(SettingsError, match="is none of 02-wide, 08-hot"):
        sequential.plan()


def test_seeds_and_other_looks_are_refused(sequential):
    with pytest.raises(PlanError, match="CONFIG_CONFIRM_SEEDS, not SEEDS="):
        sequential.plan(SEEDS="1-3")
    take_look(sequential)
    with pytest.raises(PlanError, match="was 6,8 when a run began and is 7,8"):
        due(sequential, CONFIG_LOOKS="7,8")
    changed = reported(sequential.plan(CONFIG_LOOKS="7,8")).evidence
    assert {v.outcome for v in changed.verdicts if v.step not in changed.aa} == {
        "NON_DIAGNOSTIC"
    }


@pytest.mark.parametrize(
    "symbols, why",
    [
        ({"CONFIG_LOOKS": "8,6"}, "does not rise"),
        ({"CONFIG_LOOKS": "5,8"}, "fewer than 6 seeds"),
        ({"CONFIG_ALPHA": "0.01"}, "fewer than 8 seeds"),
        ({"CONFIG_CONFIRM_SEEDS": "11-17"}, "names 7 seeds, the last"),
        ({"CONFIG_SCREEN_SEEDS": "2,12"}, "names 12, which CONFIG_SCREEN_SEEDS"),
        ({"CONFIG_SMALLEST_EFFECT": "none"}, "a sequential study stops by it"),
    ],
)
def test_looks_that_cannot_be(sequential, symbols, why):
    with pytest.raises(SettingsError, match=why):
        sequential.plan(**symbols)


def test_a_stage_is_only_of_screen_confirm(sequential):
    with pytest.raises(ConfigError, match="needs DESIGN_SCREEN_CONFIRM"):
        sequential.plan(STAGE="screen")


def test_losses_beyond_the_stop_change_nothing(sequential):
    """A run of a stopped arm that was not planned is not read."""
    take_look(sequential)
    before = reported(sequential.plan()).evidence.of("02-wide")
    run(sequential, {"02-wide": 0.5})
    after = reported(sequential.plan()).evidence.of("02-wide")
    assert after == before


def test_the_runs_of_looks_are_judged_by_no_other_rule(sequential):
    take_look(sequential)
    fixed = sequential.plan(DESIGN="fixed", SEEDS="11-16")
    (wide,) = [v for v in reported(fixed).evidence.verdicts if v.step == "02-wide"]
    assert wide.label == "NON_DIAGNOSTIC"
    assert "runs of a sequential study are judged at its looks" in wide.reasons


def test_a_directory_is_judged_by_the_design_that_its_runs_recorded(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    take_look(sequential)
    plan = sequential.plan()
    promotion.promote(plan, reported(plan))
    take_look(sequential)
    plan = sequential.plan()
    defaults = Tree(ROOT).resolve([]).values
    found = gather(plan.study_dir, recorded(plan.study_dir, defaults)).evidence
    assert found.terms.looks == plan.settings.sequence
    assert found.of("02-wide") == reported(plan).evidence.of("02-wide")


def test_a_plan_writes_nothing(sequential):
    due(sequential)
    assert not study(sequential).exists()


def registered(checkout) -> dict:
    plan = checkout.plan()
    later = checkout.plan(everyone=True) if plan.settings.stage == "screen" else None
    assert evidence_commands.prereg(plan, later) == 0
    path = study(checkout) / preregistration.WHOLE
    record = json.loads(path.read_text())
    assert record["sha256"] == sealed_record.digest(record)
    return record


def test_what_is_sealed_with_its_screening(sequential, capsys):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    record = registered(sequential)
    assert "found with probability" in capsys.readouterr().out
    assert record["looks"] == [6, 8] and record["pursue"] == "equality"
    assert len(record["law"]["nominal_p"]) == 2
    screening = record["screening"]
    assert screening["arms"] == ["02-wide", "08-hot"] and screening["seeds"] == [1, 2]
    assert screening["promote"] == 1 and screening["named"] == []
    assert set(screening["learning_rates"]) == {"00-control", "02-wide", "08-hot"}
    assert {"02-wide/seed-1", "08-hot/seed-18"} <= set(record["cells"])
    take_look(sequential)
    plan = sequential.plan()
    assert reported(plan).registration.deviations == ()
    promotion.promote(plan, reported(plan))
    take_look(sequential)
    assert reported(sequential.plan()).registration.deviations == ()
    more = reported(sequential.plan(CONFIG_PURSUE_GAIN="y")).registration.deviations
    assert more == ("pursue: registered equality, now gain",)


def test_more_arms_than_registered_are_a_deviation(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    registered(sequential)
    take_look(sequential)
    plan = sequential.plan(CONFIG_PROMOTE="2", CONFIG_PROMOTE_NAMED="")
    promotion.promote(plan, reported(plan))
    take_look(sequential)
    found = reported(sequential.plan()).registration.deviations
    assert found == ("promoted arms not registered: 08-hot",)
