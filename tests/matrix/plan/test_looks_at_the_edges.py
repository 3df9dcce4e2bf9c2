"""A sequential study, and a confirmation, that somebody bends after seeing the runs."""

import json

import pytest

from kconf.strict import Tree
from matrix.evidence import next_runs, promotion
from matrix.evidence.gather import gather
from matrix.plan.cells import PlanError
from matrix.plan.selection import recorded
from records import atomic
from tests.matrix.conftest import ROOT
from tests.matrix.plan.test_sequential_study import registered, sequential, take_look
from tests.matrix.plan.test_stage import reported, run, study, told

__all__ = ["sequential"]
BEST = {"02-wide": -0.02, "08-hot": -0.01}


def test_the_order_of_the_seeds_cannot_be_changed_after_the_first_look(sequential):
    """Seeds sorted by what they showed would claim anything."""
    take_look(sequential, {"02-wide": 0.0, "08-hot": 0.0})
    sequential.base = sequential.base.replace('"11-18"', '"11,12,14-18,13"')
    sequential.configure()
    with pytest.raises(PlanError, match="CONFIG_CONFIRM_SEEDS was 11-18 when a run"):
        next_runs.due(sequential.plan())
    assert told(sequential.plan())["02-wide"] == "NON_DIAGNOSTIC"


def test_a_confirmation_cannot_be_judged_again_at_looks(sequential):
    sequential.base = sequential.base.replace(
        "CONFIG_DESIGN_SEQUENTIAL=y\nCONFIG_LOOKS", "#"
    )
    sequential.base += 'CONFIG_SEEDS="1-3"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    screen = {"DESIGN": "screen-confirm", "STAGE": "screen"}
    plan = run(sequential, **screen)
    promotion.promote(plan, reported(plan))
    run(sequential, DESIGN="screen-confirm", STAGE="confirm")
    looked = sequential.plan(DESIGN="sequential", CONFIG_LOOKS="6,8")
    found = reported(looked).evidence.of("02-wide")
    assert found.label == "NON_DIAGNOSTIC"
    assert found.reasons == ("runs of another design were planned without looks",)


def test_a_confirmation_that_failed_is_not_thrown_away(sequential):
    """Another screening and other fresh seeds: the former ones are left out."""
    take_look(sequential)
    sequential.base = sequential.base.replace('"11-18"', '"21-28"')
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    plan = run(sequential)
    with pytest.raises(PlanError, match="a study is confirmed once"):
        promotion.promote(plan, reported(plan))


def test_a_later_look_takes_no_claim_back(sequential):
    """The control goes on under another torch: who has stopped was compared fairly."""
    take_look(sequential)
    before = reported(sequential.plan()).evidence.of("02-wide")
    take_look(sequential)
    for step in ("00-control", "08-hot"):
        for path in study(sequential).glob(f"{step}/seed-1[78]/*/summary.json"):
            atomic.write_json(path, {**json.loads(path.read_text()), "torch": "9.9"})
    found = reported(sequential.plan()).evidence
    assert before.label == "SUPPORTED better" and found.of("02-wide") == before
    assert found.of("08-hot").label == "NON_DIAGNOSTIC"
    assert "different torch" in found.of("08-hot").reasons[0]
    assert found.of("01-a-a").label == "A/A"


@pytest.fixture
def sealed(sequential, capsys):
    """Registered: two arms screened, the better one promoted."""
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    registered(sequential)
    take_look(sequential, BEST)
    return sequential


def deviations(checkout) -> tuple[str, ...]:
    take_look(checkout, BEST)
    return reported(checkout.plan()).registration.deviations


def test_fewer_arms_than_the_registered_screening_chooses(sequential, capsys):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=2\n'
    sequential.configure()
    registered(sequential)
    take_look(sequential, BEST)
    plan = sequential.plan(CONFIG_PROMOTE="1")
    promotion.promote(plan, reported(plan))
    assert deviations(sequential) == ("promoted arms registered and not there: 08-hot",)


def test_another_metric_that_ranked(sealed):
    plan = sealed.plan(METRIC="bits_per_byte", SMALLEST="0.1")
    promotion.promote(plan, reported(plan))
    lines = [line for line in deviations(sealed) if "ranked" in line]
    assert len(lines) == 1 and "ranked by bits_per_byte" in lines[0]


def test_the_directory_of_a_sealed_study_has_no_deviation(sealed):
    plan = sealed.plan()
    promotion.promote(plan, reported(plan))
    assert deviations(sealed) == ()
    place = study(sealed)
    found = gather(place, recorded(place, Tree(ROOT).resolve([]).values))
    assert found.registration.deviations == ()
    assert found.study.open == reported(sealed.plan()).study.open


def test_a_study_without_arms_says_so(sequential):
    plan = next_runs.due(sequential.plan(STEPS="0"))
    assert {cell.step for cell in plan.cells} == {"00-control"}
    assert "no arm" in next_runs.describe(sequential.plan(STEPS="0"))[0]
