"""Screen, then confirm; preregistration: on the plan of a throw-away checkout."""

import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kconf.bind import SettingsError
from matrix import evidence_commands
from matrix.evidence import promotion
from matrix.evidence.gather import Report, gather
from matrix.launch import prepare
from matrix.plan import rerun
from matrix.plan.cells import Plan, PlanError
from matrix.plan.selection import selected
from records import atomic, jsonl
from records import sealed_record
from records.layout import RecordError
from tests.matrix.synthetic import FACTS

BETTER = {"02-wide": -0.02, "08-hot": +0.02}
AA = '# Help: the control again\nCONFIG_INIT_SALT="aa"\n'


def run(checkout, shifts=BETTER, choose=lambda plan: plan, **environment):
    """As if the chosen cells of the plan had been trained, with these true
    differences."""
    plan = choose(checkout.plan(**environment))
    for cell in plan.cells:
        if cell.state == "done":
            continue
        noise = random.Random(f"{cell.step} {cell.seed}").gauss(0, 0.001)
        loss = 3.3 + 0.01 * (cell.seed % 7) + shifts.get(cell.step, 0.0) + noise
        provenance = {"time": time.time(), "cpu": "A Processor", "git": {}}
        prepare.write(plan, cell, ["python"], provenance)
        row = {"kind": "eval", "attempt": 1, "step": 100, "loss": loss, "tokens": 99}
        with jsonl.open_append(cell.dir.metrics) as metrics:
            metrics.append({**row, "time": 1.0, "bits_per_byte": 1.0})
        with jsonl.open_append(cell.dir.attempts) as attempts:
            attempts.append({"event": "start", "attempt": 1, "time": time.time()})
        summary = {"schema": 1, "hash": cell.hash, "step": 100, "facts": FACTS}
        summary["final_eval"] = {"loss": loss, "step": 100}
        atomic.write_json(cell.dir.summary, {**summary, "stopped_by": "tokens"})
    return checkout.plan(**environment)


def told(plan) -> dict[str, str]:
    """{step: verdict} of a plan's report."""
    found = reported(plan).evidence.verdicts
    return {verdict.step: verdict.label for verdict in found}


def reported(plan: Plan) -> Report:
    """What the plan's report says."""
    return gather(plan.study_dir, selected(plan))


def study(checkout) -> Path:
    return checkout.root / "results" / "toy"


SCREEN = {"DESIGN": "screen-confirm", "STAGE": "screen"}
CONFIRM = {"DESIGN": "screen-confirm", "STAGE": "confirm"}


@pytest.fixture
def promoted(checkout, capsys):
    """A screening of two arms on seeds 1-3, of which the better one is promoted."""
    checkout.step("01-a-a", AA)
    checkout.base += 'CONFIG_SEEDS="1-3"\nCONFIG_PROMOTE=1\n'
    checkout.base = checkout.base.replace('CONFIG_SEEDS="1-2"\n', "")
    checkout.base += 'CONFIG_CONFIRM_SEEDS="11-16"\n'
    checkout.configure()
    assert evidence_commands.perform("promote", run(checkout, **SCREEN), {}) == 0
    return checkout


def test_a_screening_ranks_and_promotes(promoted, capsys):
    record = json.loads((study(promoted) / "promotion.json").read_text())
    assert record["promoted"] == ["02-wide"] and record["seeds"] == [1, 2, 3]
    assert [arm["step"] for arm in record["ranking"]] == ["02-wide", "08-hot"]
    assert record["control"] == "00-control"
    assert len(record["ranking"][0]["runs"]) == 3
    assert record["sha256"] == sealed_record.digest(record)


def test_seeds_that_left_the_configuration_stay_on_record(checkout, capsys):
    """They were seen: a confirmation may not take them for fresh."""
    checkout.base += 'CONFIG_PROMOTE=1\nCONFIG_CONFIRM_SEEDS="11-16"\n'
    checkout.configure()
    run(checkout, SEEDS="1-3", **SCREEN)
    plan = checkout.plan(SEEDS="1-2", **SCREEN)
    assert evidence_commands.perform("promote", plan, {}) == 0
    record = json.loads((study(checkout) / "promotion.json").read_text())
    assert record["seeds"] == [1, 2, 3]


def test_a_confirmation_takes_the_promoted_on_fresh_seeds(promoted):
    plan = run(promoted, **CONFIRM)
    assert {cell.step for cell in plan.cells} == {"00-control", "01-a-a", "02-wide"}
    assert {cell.seed for cell in plan.cells} == set(range(11, 17))
    assert told(plan) == {"02-wide": "SUPPORTED better", "01-a-a": "A/A"}
    evidence = reported(plan).evidence
    assert evidence.family == ("02-wide",) and evidence.seeds == tuple(range(11, 17))
    runs = [json.loads(c.dir.run_json.read_text()) for c in plan.cells]
    assert {each["cell"]["stage"] for each in runs} == {"confirm"}


def test_no_verdict_in_a_screening(promoted):
    with pytest.raises(PlanError, match="ranks the arms and claims nothing"):
        evidence_commands.perform("verdict", promoted.plan(**SCREEN), {})


def test_the_seeds_of_a_screening_cannot_come_back(promoted):
    """By the same list, by a changed list, by another stage, without the record."""
    with pytest.raises(SettingsError, match="names 2, which CONFIG_SEEDS takes"):
        promoted.plan(CONFIG_CONFIRM_SEEDS="2-7", **CONFIRM)
    moved = {"CONFIG_CONFIRM_SEEDS": "2-7", "CONFIG_SEEDS": "21-23"}
    with pytest.raises(PlanError, match="not SEEDS="):
        promoted.plan(**moved, **CONFIRM)
    promoted.base = promoted.base.replace('SEEDS="1-3"', 'SEEDS="21-23"')
    promoted.configure()
    with pytest.raises(PlanError, match=r"seeds 2-3 were used.*\(4-9 are free\)"):
        promoted.plan(CONFIG_CONFIRM_SEEDS="2-7", **CONFIRM)
    one = promoted.plan(SEEDS="1-3")
    assert set(told(one).values()) == {"NON_DIAGNOSTIC"}
    reasons = reported(one).evidence.verdicts[-1].reasons
    assert reasons[0].startswith("screening seeds re-used: 1-3;")
    (study(promoted) / "promotion.json").unlink()
    assert set(told(promoted.plan(SEEDS="1-3")).values()) == {"NON_DIAGNOSTIC"}
    with pytest.raises(PlanError, match="promotion.json is not there"):
        promoted.plan(**CONFIRM)


def test_a_promotion_outlives_the_runs_of_its_screening(promoted):
    for folder in study(promoted).glob("*/seed-*"):
        shutil.rmtree(folder)
    promoted.base = promoted.base.replace('SEEDS="1-3"', 'SEEDS="21-23"')
    promoted.configure()
    with pytest.raises(PlanError, match="seeds 2-3 were used before"):
        promoted.plan(CONFIG_CONFIRM_SEEDS="2-7", **CONFIRM)


def test_seeds_that_another_stage_ran_are_not_fresh(promoted):
    run(promoted, STEPS="8", SEEDS="16")
    with pytest.raises(PlanError, match=r"seeds 16 were used before.*\(17-22 are"):
        promoted.plan(**CONFIRM)


def test_what_was_not_promoted_is_not_confirmed(promoted):
    with pytest.raises(PlanError, match="08-hot was not promoted"):
        promoted.plan(STEPS="0,8", **CONFIRM)
    with pytest.raises(PlanError, match="compared with 00-control, CONFIG_CONTROL"):
        promoted.plan(CONTROL="2", **CONFIRM)


def test_promotion_happens_once_and_in_order(promoted):
    with pytest.raises(RecordError, match="never replaced"):
        evidence_commands.perform("promote", promoted.plan(**SCREEN), {})
    with pytest.raises(PlanError, match="only a screening promotes"):
        evidence_commands.perform("promote", promoted.plan(SEEDS="1-3"), {})
    run(promoted, **CONFIRM)
    (study(promoted) / "promotion.json").unlink()
    with pytest.raises(PlanError, match="seeds 11-16 of CONFIG_CONFIRM_SEEDS ran"):
        evidence_commands.perform("promote", promoted.plan(**SCREEN), {})


def test_an_edited_promotion_is_refused(promoted):
    path = study(promoted) / "promotion.json"
    path.write_text(path.read_text().replace('"02-wide"\n', '"08-hot"\n'))
    with pytest.raises(RecordError, match="its seal is broken"):
        promoted.plan(**CONFIRM)


def test_a_screening_must_be_complete(checkout):
    run(checkout, STEPS="0,2", **SCREEN)
    with pytest.raises(PlanError, match="2 cells of the screening did not run yet"):
        evidence_commands.perform("promote", checkout.plan(**SCREEN), {})


@pytest.mark.parametrize("state", ["new", "running", "interrupted"])
def test_a_screening_that_still_runs_is_not_complete(checkout, state):
    """An arm whose run is not over would be lost for good."""
    run(checkout, **SCREEN)
    plan = checkout.plan(**SCREEN)
    report = reported(plan)
    late = SimpleNamespace(state=state)
    report = replace(report, study=replace(report.study, open=(late,)))
    with pytest.raises(PlanError, match="1 cell of the screening did not run yet"):
        promotion.promote(plan, report)
    assert not (plan.study_dir / "promotion.json").exists()


# -- preregistration

SIX = {"SEEDS": "1-6"}


@pytest.fixture
def registered(checkout):
    """The study on six seeds, registered, then run."""
    plan = checkout.plan(**SIX)
    assert evidence_commands.prereg(plan, None) == 0
    run(checkout, **SIX)
    return checkout


def deviations(plan) -> tuple[str, ...]:
    return reported(plan).registration.deviations


def test_what_a_registration_holds(registered):
    record = json.loads((study(registered) / "preregistration.json").read_text())
    assert record["arms"] == ["02-wide", "08-hot"]
    assert record["seeds"] == [1, 2, 3, 4, 5, 6]
    assert (record["metric"], record["smallest"], record["alpha"]) == (
        "val_loss",
        0.002,
        0.05,
    )
    assert record["control"] == "00-control" and len(record["cells"]) == 18
    assert "no seed is added" in record["stop"] and len(record["sha256"]) == 64


def test_a_study_done_as_registered(registered):
    plan = registered.plan(**SIX)
    assert deviations(plan) == ()
    assert told(plan) == {"02-wide": "SUPPORTED better", "08-hot": "SUPPORTED worse"}


DEVIATIONS = [
    ({"METRIC": "bits_per_byte"}, "metric: registered val_loss, now bits_per_byte"),
    ({"SMALLEST": "0.01"}, "smallest: registered 0.002, now 0.01"),
    ({"CONFIG_ALPHA": "0.1"}, "alpha: registered 0.05, now 0.1"),
    ({"CONTROL": "2"}, "control: registered 00-control, now 02-wide"),
    ({"SEEDS": "1-7"}, "seeds not registered: 7"),
    ({"SEEDS": "1-5"}, "seeds registered and not there: 6"),
]


def test_deviations(registered):
    for environment, line in DEVIATIONS:
        assert line in deviations(registered.plan(**{**SIX, **environment}))


def test_arms_that_were_not_announced_and_other_cells(registered):
    registered.step("09-late", "# Help: an afterthought\nCONFIG_MLP_DIM=768\n")
    plan = run(registered, **SIX)
    assert deviations(plan) == ("arms not registered: 09-late",)
    (registered.root / "gpt2" / "__init__.py").write_text("# changed\n")
    lines = deviations(run(registered, STEPS="2", **SIX))
    assert any(line.startswith("code: registered") for line in lines)
    assert any(line.startswith("not the registered cells: 02-wide/") for line in lines)


def test_runs_before_the_registration_and_an_edited_one(registered):
    path = study(registered) / "preregistration.json"
    record = json.loads(path.read_text())
    later = {k: v for k, v in record.items() if k != "sha256"}
    later["time"] = time.time() + 60
    path.unlink()
    sealed_record.write(path, later)
    (line,) = deviations(registered.plan(**SIX))
    assert line.startswith("started before the registration: 00-control/seed-1/")
    path.write_text(path.read_text().replace("0.002", "0.2"))
    (line,) = deviations(registered.plan(**SIX))
    assert "its seal is broken" in line


def test_runs_that_others_took_the_place_of(registered):
    plan = registered.plan(STEPS="2", SEEDS="1")
    rerun.make_room(rerun.replaced_by_new_runs(plan), True, lambda line: None)
    (line,) = deviations(run(registered, **SIX))
    assert line.startswith("replaced by another run of the cell: .replaced/toy/02-wide")
    (study(registered) / "preregistration.json").unlink()
    for path in study(registered).glob("*/seed-*"):
        shutil.rmtree(path)
    with pytest.raises(PlanError, match=".replaced/.* exists: .* before its first run"):
        evidence_commands.prereg(registered.plan(**SIX), None)


def test_a_registration_comes_first_and_once(registered):
    plan = registered.plan(**SIX)
    with pytest.raises(RecordError, match="registered once"):
        evidence_commands.prereg(plan, None)
    (study(registered) / "preregistration.json").unlink()
    with pytest.raises(PlanError, match="seed-1/.* exists: .* before its first run"):
        evidence_commands.prereg(plan, None)
    assert reported(plan).registration is None


def test_a_confirmation_has_its_own_registration(promoted):
    assert evidence_commands.prereg(promoted.plan(**CONFIRM), None) == 0
    plan = run(promoted, **CONFIRM)
    assert deviations(plan) == ()
    assert (study(promoted) / "preregistration-confirm.json").exists()


def test_a_registered_arm_that_was_dropped_stays_in_the_family(registered):
    shutil.rmtree(study(registered) / "08-hot")
    plan = registered.plan(STEPS="2", **SIX)
    evidence = reported(plan).evidence
    assert evidence.family == ("02-wide", "08-hot")
    assert evidence.of("08-hot").reasons == ("announced, never ran",)


# -- make verdict


def test_the_verdict_of_one_step(registered, capsys):
    plan = registered.plan(**SIX)
    assert evidence_commands.perform("verdict", plan, {"STEP": "2"}) == 0
    text = capsys.readouterr().out
    assert "02-wide against 00-control: SUPPORTED better" in text
    assert "08-hot against" not in text
    assert "2 arms in the family" in text and "no deviation" in text
    for seed in range(1, 7):
        assert f"00-control/seed-{seed}/" in text and f"02-wide/seed-{seed}/" in text
    with pytest.raises(SettingsError, match="7 is none of 02-wide, 08-hot"):
        evidence_commands.perform("verdict", plan, {"STEP": "7"})


def test_the_verdict_against_another_control(registered, capsys):
    plan = registered.plan(CONTROL="8", **SIX)
    assert evidence_commands.perform("verdict", plan, {"STEP": "2"}) == 0
    text = capsys.readouterr().out
    assert "02-wide against 08-hot: SUPPORTED better" in text
    assert "deviation: control: registered 00-control, now 08-hot" in text
    with pytest.raises(SettingsError, match="CONFIG_CONTROL_STEP=.*5 is none of"):
        registered.plan(CONTROL="5")


def test_a_smallest_effect_is_of_the_configured_metric(checkout):
    checkout.configure('CONFIG_METRIC="tokens_per_s"', 'CONFIG_SMALLEST_EFFECT="50"')
    assert selected(checkout.plan()).terms.smallest == 50.0
    plan = checkout.plan(METRIC="val_loss")
    assert selected(plan).terms.smallest is None, "50 is of tokens/s"


def test_another_metric_has_no_smallest_effect_of_its_own(registered):
    plan = registered.plan(METRIC="perplexity", **SIX)
    assert selected(plan).terms.smallest is None
    plan = registered.plan(METRIC="perplexity", SMALLEST="0.1", **SIX)
    assert selected(plan).terms.smallest == 0.1
    assert selected(registered.plan(METRIC="val_loss")).terms.smallest == 0.002
    with pytest.raises(SettingsError, match="'loss' is none of val_loss|is none of"):
        registered.plan(METRIC="loss")


@pytest.mark.parametrize("raw", ["0", "-1", "nan", "inf", "small", "0_1", " 1", "0.٥"])
def test_a_smallest_effect_is_a_number_or_none(checkout, raw):
    checkout.configure(f'CONFIG_SMALLEST_EFFECT="{raw}"')
    with pytest.raises(SettingsError, match="SMALLEST_EFFECT"):
        checkout.plan()


@pytest.mark.parametrize("raw", ["0", "1e-10", "0.5", "0.٠٥"])
def test_a_level_is_between_a_billionth_and_a_half(checkout, raw):
    checkout.configure(f'CONFIG_ALPHA="{raw}"')
    with pytest.raises(SettingsError, match="ALPHA"):
        checkout.plan()


@pytest.mark.parametrize("raw", ["٠", "²", "9", "wide"])
def test_a_control_is_a_step_by_number_or_name(checkout, raw):
    checkout.configure(f'CONFIG_CONTROL_STEP="{raw}"')
    with pytest.raises(SettingsError, match=f"{raw} is none of 00-control"):
        checkout.plan()


@pytest.mark.parametrize(
    "metric", ["tokens_per_s", "bits_per_byte", "perplexity", "eval:t/acc"]
)
def test_the_default_of_the_loss_is_no_other_metric_s(checkout, metric):
    """Refused with the reason; a number of its own or "none" is fine."""
    line = f'CONFIG_METRIC="{metric}"'
    checkout.configure(line)
    with pytest.raises(SettingsError, match=f"alone, and CONFIG_METRIC is {metric}: "):
        checkout.plan()
    checkout.configure(line, 'CONFIG_SMALLEST_EFFECT="none"')
    assert selected(checkout.plan()).terms.smallest is None
    checkout.configure(line, 'CONFIG_SMALLEST_EFFECT="0.002"')
    assert selected(checkout.plan()).terms.smallest == 0.002
    checkout.configure('CONFIG_METRIC="val_loss"')
    assert selected(checkout.plan()).terms.smallest == 0.002
