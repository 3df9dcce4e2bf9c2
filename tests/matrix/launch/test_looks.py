"""One `make` of a sequential study: screening, promotion, look after look, report."""

import json

import pytest

from matrix import run

REPORT = run._report
LOSSES = {"02-wide": -0.02, "08-hot": 0.0}


@pytest.fixture
def sequential(checkout, monkeypatch):
    """A control and two arms, one of them true; the runner reports as it does for a
    person."""
    monkeypatch.setattr(run, "_report", REPORT)
    checkout.base = checkout.base.replace('CONFIG_SEEDS="1-2"\n', "")
    checkout.base += 'CONFIG_DESIGN_SEQUENTIAL=y\nCONFIG_LOOKS="6,8"\n'
    checkout.base += 'CONFIG_CONFIRM_SEEDS="11-18"\nCONFIG_SMALLEST_EFFECT="0.0004"\n'
    checkout.configure()
    checkout.stub(steps=1, sleep=0, losses=LOSSES)
    return checkout


def seeds(checkout, step: str) -> list[int]:
    """The seeds of a step that ran."""
    place = checkout.root / "results" / "toy" / step
    return sorted(int(path.name.removeprefix("seed-")) for path in place.glob("seed-*"))


def test_one_make_goes_look_by_look_and_runs_no_more_than_it_needs(sequential):
    status, output = sequential.run()
    assert status == 0, output
    assert seeds(sequential, "02-wide") == list(range(11, 17))
    assert seeds(sequential, "08-hot") == list(range(11, 19))
    assert (
        "look 1 is next, of 2 arms" in output and "look 2 is next, of 1 arm" in output
    )
    assert "02-wide: SUPPORTED better" in output
    assert "missing" not in output
    status, output = sequential.run()
    assert status == 0 and "decided after look 2" in output


def test_a_screening_promotes_by_itself(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    status, output = sequential.run()
    assert status == 0 and "promoted: 02-wide" in output, output
    record = json.loads((sequential.root / "results/toy/promotion.json").read_text())
    assert record["promoted"] == ["02-wide"] and record["seeds"] == [1, 2]
    assert seeds(sequential, "02-wide") == [1, 2, *range(11, 17)]
    assert seeds(sequential, "08-hot") == [1, 2]


def test_chosen_steps_are_screened_and_then_what_of_them_was_promoted(sequential):
    sequential.base += 'CONFIG_SCREEN_SEEDS="1-2"\nCONFIG_PROMOTE=1\n'
    sequential.configure()
    status, output = sequential.run(STEPS="0,2,8")
    assert status == 0, output
    assert seeds(sequential, "02-wide") == [1, 2, *range(11, 17)]


def test_one_look_and_no_more(sequential):
    status, output = sequential.run(LOOK="1")
    assert status == 0 and seeds(sequential, "08-hot") == list(range(11, 17))
    told = " ".join(output.split())
    assert "08-hot: UNRESOLVED" in told and "goes on: judged at look 1 of 2" in told
    status, output = sequential.run(LOOK="1")
    assert seeds(sequential, "08-hot") == list(range(11, 19))


def test_only_a_sequential_study_has_looks(checkout):
    status, output = checkout.run(LOOK="1")
    assert status == 2 and "only a sequential study has looks" in output


def test_a_diverged_arm_stays_invalid_and_the_others_go_on(sequential):
    sequential.stub(steps=1, sleep=0, losses=LOSSES, **{"02-wide": "diverge"})
    status, output = sequential.run()
    assert status == 1
    assert "02-wide: INVALID" in output
    assert seeds(sequential, "08-hot") == list(range(11, 19)), output


def test_a_failed_cell_is_waited_for(sequential):
    sequential.stub(steps=1, sleep=0, losses=LOSSES, **{"08-hot": "fail"})
    status, output = sequential.run()
    assert status == 1 and seeds(sequential, "02-wide") == list(range(11, 17))
    told = " ".join(output.split())
    assert (
        "02-wide: UNRESOLVED (not preregistered), goes on: no look was judged" in told
    )
    sequential.stub(steps=1, sleep=0, losses=LOSSES)
    status, output = sequential.run()
    assert status == 0 and "02-wide: SUPPORTED better" in output


def test_a_lost_control_ends_the_study(sequential):
    sequential.stub(steps=1, sleep=0, losses=LOSSES, **{"00-control": "diverge"})
    status, output = sequential.run()
    assert status == 1 and seeds(sequential, "08-hot") == list(range(11, 17))
    assert "00-control seed 11 diverged" in output


def test_the_plan_says_what_it_takes(sequential):
    status, output = sequential.run("plan")
    assert status == 0
    assert "runs: 18 at best, typically" in output and "24 at worst" in output
    assert "found with probability" in output
    assert "18 new" in output
