"""The same tuning budget for every arm: trials, tuning.json, and the tuned steps."""

import json

import pytest

from kconf.bind import SettingsError
from kconf.strict import ConfigError
from matrix import evidence_commands
from matrix.evidence import tuning
from matrix.evidence.gather import gather
from matrix.plan.cells import PlanError
from matrix.plan.tuning import environment
from matrix.report import tuning_section
from matrix.report.sections import document_of
from matrix.report.verdict_text import explain
from records import sealed_record
from records.layout import RecordError
from tests.matrix.plan.test_stage import reported, run, study, told

TUNE = {"CONFIG_TUNE": "LEARNING_RATE=3e-4,6e-4,1.2e-3"}
HOT = '# Help: wide and hot\nCONFIG_MLP_DIM=768\nCONFIG_LEARNING_RATE="1e-3"\n'
AA = '# Help: the control again\nCONFIG_INIT_SALT="aa"\n'
BEST = {
    "00-control-learning-rate-6e-4": -0.1,
    "02-wide-learning-rate-1.2e-3": -0.1,
    "08-hot-learning-rate-3e-4": -0.1,
}
SEEDS = {"SEEDS": "1-6"}


@pytest.fixture
def untuned(checkout):
    """A study of a control, a wide step, and a wide one with a rate of its own."""
    checkout.step("08-hot", HOT)
    return checkout


def tune(checkout, shifts=BEST, **more):
    """As if `make tune` had run: (path, record)."""
    plan = run(checkout, shifts, **environment({**TUNE, **more}))
    return tuning.seal(plan)


@pytest.fixture
def tuned(untuned):
    tune(untuned)
    return untuned


def values(plan) -> dict[str, str]:
    return {cell.step: cell.values["LEARNING_RATE"] for cell in plan.cells}


# -- the trials ----------------------------------------------------------------


def test_every_arm_is_tried_at_every_point(untuned):
    plan = untuned.plan(**environment(TUNE))
    assert plan.settings.label == "toy.tuning" and len(plan.cells) == 9
    tried = {(c.arm["of"], c.values["LEARNING_RATE"], c.seed) for c in plan.cells}
    arms, rates = ("00-control", "02-wide", "08-hot"), ("3e-4", "6e-4", "1.2e-3")
    assert tried == {(arm, rate, 901) for arm in arms for rate in rates}


def test_the_control_is_tuned_whatever_is_chosen(untuned):
    plan = untuned.plan(**environment({**TUNE, "STEPS": "2"}))
    assert {cell.arm["of"] for cell in plan.cells} == {"00-control", "02-wide"}


def test_what_moves_the_tuning_is_refused(untuned):
    with pytest.raises(PlanError, match="SEEDS=1 make tune"):
        environment({"SEEDS": "1"})
    with pytest.raises(PlanError, match="BASELINE=x make tune"):
        environment({"BASELINE": "x"})
    with pytest.raises(PlanError, match="CONFIG_TUNE is empty"):
        untuned.plan(**environment({}))


def test_a_tuning_of_the_only_difference_is_refused(checkout):
    """08-hot is the control with another rate: tuned, there is nothing to compare."""
    with pytest.raises(PlanError, match="are the same configuration"):
        checkout.plan(**environment(TUNE))


def test_a_symbol_that_an_arm_does_not_have_is_refused(untuned):
    untuned.step("08-hot", "# Help: SGD\nCONFIG_OPTIMIZER_SGD=y\n")
    beta = {"CONFIG_TUNE": "ADAM_BETA2=0.9,0.95"}
    with pytest.raises(ConfigError, match="ADAM_BETA2=0.9 from CONFIG_TUNE"):
        untuned.plan(**environment(beta))


@pytest.mark.parametrize("seeds", ["1", "101-103"])
def test_seeds_that_choose_are_never_judged(untuned, seeds):
    with pytest.raises(SettingsError, match="which a verdict takes"):
        untuned.plan(**environment({**TUNE, "CONFIG_TUNE_SEEDS": seeds}))
    with pytest.raises(SettingsError, match="names 901, which a verdict takes"):
        untuned.plan(**TUNE, SEEDS="900-905")


def test_an_a_a_arm_takes_the_values_of_the_control(tuned):
    tuned.step("01-a-a", AA)
    plan = run(tuned, **TUNE, **SEEDS)
    assert values(plan)["01-a-a"] == values(plan)["00-control"] == "6e-4"
    assert told(plan)["01-a-a"] == "A/A"
    assert reported(plan).tuning.tuned("01-a-a")


# -- the choice ----------------------------------------------------------------


def test_the_best_point_of_every_arm_is_sealed(tuned):
    record = json.loads((study(tuned) / "tuning.json").read_text())
    chosen = {step: arm["chosen"] for step, arm in record["arms"].items()}
    assert chosen == {
        "00-control": {"LEARNING_RATE": "6e-4"},
        "02-wide": {"LEARNING_RATE": "1.2e-3"},
        "08-hot": {"LEARNING_RATE": "3e-4"},
    }
    trial = record["arms"]["02-wide"]["trials"][2]
    assert trial["metric"] == trial["by_seed"]["901"] < 3.3
    run_dir = untuned_dir(tuned) / trial["runs"][0]
    assert (run_dir / "summary.json").exists()
    assert record["seeds"] == [901] and record["study"] == "toy.tuning"
    assert record["arms"]["02-wide"]["changes"] == {"MLP_DIM": 1024}
    assert record["sha256"] == sealed_record.digest(record)


def untuned_dir(checkout):
    return checkout.root / "results" / "toy.tuning"


def test_the_mean_over_the_seeds_chooses(untuned):
    _, record = tune(untuned, CONFIG_TUNE_SEEDS="901-903")
    trial = record["arms"]["00-control"]["trials"][0]
    assert trial["metric"] == pytest.approx(sum(trial["by_seed"].values()) / 3)
    assert tuning.trial_count(record["arms"]["00-control"]) == 9


def test_a_tuning_that_is_not_complete_is_not_sealed(untuned):
    run(untuned, BEST, **environment({**TUNE, "STEPS": "2"}))
    plan = untuned.plan(**environment(TUNE))
    with pytest.raises(PlanError, match="08-hot.*never ran: every trial counts"):
        tuning.seal(plan)
    assert not (study(untuned) / "tuning.json").exists()


def test_a_trial_that_diverged_loses(untuned):
    nan = {"00-control-learning-rate-6e-4": float("nan")}
    _, record = tune(untuned, BEST | nan)
    arm = record["arms"]["00-control"]
    assert [trial["metric"] is None for trial in arm["trials"]] == [False, True, False]
    assert arm["chosen"] != {"LEARNING_RATE": "6e-4"}


def test_an_arm_whose_trials_all_diverged_has_no_choice(untuned):
    rates = ("3e-4", "6e-4", "1.2e-3")
    nan = {f"02-wide-learning-rate-{rate}": float("nan") for rate in rates}
    with pytest.raises(PlanError, match="02-wide: every trial diverged"):
        tune(untuned, nan)


def test_a_sealed_tuning_is_not_made_again(tuned):
    path = study(tuned) / "tuning.json"
    before = path.read_text()
    tune(tuned, {})
    assert path.read_text() == before
    with pytest.raises(PlanError, match="CONFIG_TUNE was .*, now LEARNING_RATE=1e-4"):
        tuned.plan(**environment({"CONFIG_TUNE": "LEARNING_RATE=1e-4,6e-4"}))


def test_what_is_no_loss_chooses_nothing(untuned):
    with pytest.raises(PlanError, match="a tuning goes by a loss"):
        tune(untuned, METRIC="step_time")


# -- the study -----------------------------------------------------------------


def test_the_study_waits_for_its_tuning(untuned):
    with pytest.raises(PlanError, match="make tune first"):
        untuned.plan(**TUNE)


def test_steps_run_with_their_values(tuned):
    plan = tuned.plan(**TUNE)
    assert values(plan) == {"00-control": "6e-4", "02-wide": "1.2e-3", "08-hot": "3e-4"}
    wide = next(cell for cell in plan.cells if cell.step == "02-wide")
    assert wide.changes == ("LEARNING_RATE", "MLP_DIM")
    assert '# From tuning.json:\nCONFIG_LEARNING_RATE="1.2e-3"' in wide.fragment
    assert 'CONFIG_LEARNING_RATE="1.2e-3"' in wide.dotconfig
    notes = "\n".join(plan.notes)
    assert "tuned on seeds 901" in notes
    assert "02-wide: CONFIG_LEARNING_RATE=1.2e-3 is the highest tried: an edge" in notes
    assert "00-control: CONFIG" not in notes


def test_another_tuning_than_was_done_is_refused(tuned):
    for name, value in (
        ("CONFIG_TUNE", "LEARNING_RATE=3e-4,6e-4"),
        ("CONFIG_TUNE_SEEDS", "902"),
    ):
        with pytest.raises(PlanError, match=f"{name} was .*when the study was tuned"):
            tuned.plan(**{**TUNE, name: value})
    with pytest.raises(PlanError, match="LEARNING_RATE=1e-5: .*is tuned for every arm"):
        tuned.plan(**TUNE, CONFIG_LEARNING_RATE="1e-5", STEPS="0,2")


def test_another_arm_than_was_tuned_is_refused(tuned):
    tuned.step("03-new", "# Help: new\nCONFIG_MLP_DIM=256\n")
    with pytest.raises(PlanError, match="03-new was not tuned"):
        tuned.plan(**TUNE)
    assert len(tuned.plan(**TUNE, STEPS="0,2").cells) == 4
    tuned.step("02-wide", "# Help: wider\nCONFIG_MLP_DIM=2048\n")
    with pytest.raises(PlanError, match="02-wide is not the step that was tuned: it "):
        tuned.plan(**TUNE, STEPS="0,2")


def test_settings_that_moved_since_are_told(tuned):
    plan = run(tuned, **TUNE, MAX_ITERS="7")
    assert "tuned under other settings: CONFIG_GPT2_MAX_ITERS 3 → 7" in plan.notes
    assert "CONFIG_GPT2_MAX_ITERS 3 → 7" in text_of(plan)


def test_an_edited_tuning_is_refused(tuned):
    path = study(tuned) / "tuning.json"
    path.write_text(path.read_text().replace('"6e-4"', '"3e-4"'))
    with pytest.raises(RecordError, match="its seal is broken"):
        tuned.plan(**TUNE)


def test_a_tuning_that_is_not_used_is_told(tuned):
    (note,) = (note for note in tuned.plan().notes if "tuning.json" in note)
    assert "is not used: CONFIG_TUNE is empty" in note


def test_a_size_of_a_ladder_is_tuned_by_itself(untuned):
    part = environment(TUNE, "ladder-4")["CONFIG_STUDY_PART"]
    plan = run(untuned, BEST, **TUNE, CONFIG_STUDY_PART=part)
    path, _ = tuning.seal(plan)
    assert plan.study_dir.name == "toy.ladder-4.tuning"
    assert path.parent.name == "toy.ladder-4"
    there = untuned.plan(**TUNE, CONFIG_STUDY_PART="ladder-4")
    assert values(there)["00-control"] == "6e-4"


def test_make_tune(untuned):
    """The command: every trial run, the choice sealed, and what a failure leaves."""
    untuned.stub(**{"02-wide-learning-rate-6e-4": "fail"})
    status, output = untuned.run("tune", **TUNE)
    assert status == 2 and "02-wide-learning-rate-6e-4" in output
    assert "every trial counts; make tune again" in output
    untuned.stub()
    status, output = untuned.run("tune", **TUNE)
    assert status == 0, output
    assert "Every arm, the control too, tried 3 points in 3 runs" in output
    assert (study(untuned) / "tuning.json").exists()
    status, output = untuned.run(SEEDS="1", **TUNE)
    assert status == 0 and "3 cells (3 new)" in output


# -- the report ----------------------------------------------------------------


def text_of(plan) -> str:
    """The section "Tuning" as text; "" without one."""
    section = tuning_section.section(reported(plan))
    return "" if section is None else "\n".join(map(str, section.blocks))


def test_a_rate_of_an_arm_alone_is_marked(untuned):
    """It may win by its rate: nobody looked for the control's."""
    plan = run(untuned, {"08-hot": -0.02}, **SEEDS)
    found = reported(plan).tuning
    assert found.own == {"08-hot": ("CONFIG_LEARNING_RATE 6e-4 → 1e-3",)}
    assert found.remark("08-hot") == (
        "its rate was set for this arm (CONFIG_LEARNING_RATE 6e-4 → 1e-3), the "
        "control's was not tuned"
    )
    assert found.remark("02-wide") is None
    assert "Rates that no declared budget chose" in text_of(plan)


def test_an_arm_that_is_its_rate_is_not_marked(checkout):
    """08-hot changes the rate and nothing else: that is what it says it is."""
    found = reported(run(checkout, **SEEDS)).tuning
    assert found.own == {} and not found.tuned("08-hot")


def test_a_rate_that_the_same_budget_chose_is_not_marked(tuned):
    plan = run(tuned, {"08-hot": -0.02}, **TUNE, **SEEDS)
    found = reported(plan).tuning
    assert values(plan)["08-hot"] != values(plan)["00-control"]
    assert found.own == {} and found.tuned("08-hot") and found.tuned("00-control")
    assert told(plan)["08-hot"] == "SUPPORTED better"
    text = text_of(plan)
    assert "tried 3 points in 3 runs on seeds 901" in text and "equal budgets" in text
    assert "Rates that no" not in text and "Not tuned" not in text
    titles = [section.title for section in document_of(reported(plan))[0].sections]
    assert titles[titles.index("Tuning") - 1] == "Verdicts"


def resealed(checkout, change):
    """tuning.json with a change, as if the harness had written it."""
    path = study(checkout) / "tuning.json"
    record = json.loads(path.read_text())
    change(record)
    path.unlink()
    sealed_record.write(path, {k: v for k, v in record.items() if k != "sha256"})


def test_the_tuning_of_another_study_is_not_taken(tuned):
    resealed(tuned, lambda record: record.update(study="other.tuning"))
    with pytest.raises(PlanError, match="is of other.tuning, not of toy.tuning"):
        tuned.plan(**TUNE, **SEEDS)


def test_a_budget_that_only_the_arm_had_is_marked(tuned):
    plan = run(tuned, {"08-hot": -0.02}, **TUNE, **SEEDS)
    resealed(tuned, lambda record: record["arms"]["00-control"]["trials"].pop())
    found = gather(plan.study_dir).tuning
    assert not found.tuned("08-hot") and "08-hot" in found.own
    assert found.untuned["08-hot"] == "was tuned with 3 runs, the control with 2"
    assert found.remark("08-hot").endswith("3e-4): 08-hot " + found.untuned["08-hot"])
    assert "Unequal budgets" in text_of(plan)


def test_runs_with_other_values_are_not_the_tuned_ones(tuned):
    plan = run(tuned, **TUNE, **SEEDS)
    change = {"LEARNING_RATE": "7e-4"}
    resealed(tuned, lambda record: record["arms"]["02-wide"].update(chosen=change))
    found = gather(plan.study_dir).tuning
    assert not found.tuned("02-wide") and found.tuned("00-control")
    assert "seed 1 ran with CONFIG_LEARNING_RATE=1.2e-3, not 7e-4" in text_of(plan)


def test_runs_that_chose_are_never_judged(tuned):
    report = gather(untuned_dir(tuned))
    verdicts = report.evidence.verdicts
    assert {verdict.label for verdict in verdicts} == {"NON_DIAGNOSTIC"}
    assert "seeds of the tuning: 901" in "\n".join(explain(report, [verdicts[0].step]))


def test_their_seeds_are_not_judged_elsewhere(tuned):
    """CONFIG_TUNE taken out again: the seeds are used up all the same."""
    plan = run(tuned, SEEDS="901-906")
    reasons = reported(plan).evidence.verdicts[0].reasons
    assert reasons[0].startswith("seeds of the tuning: 901;")


def test_no_claims_from_a_tuning(tuned):
    plan = tuned.plan(**environment(TUNE))
    with pytest.raises(PlanError, match="a tuning is never judged"):
        evidence_commands.prereg(plan, None)


def test_what_a_preregistration_says(tuned):
    assert tuning.sealed(tuned.plan()) is None
    said = tuning.sealed(tuned.plan(**TUNE))
    record = json.loads((study(tuned) / "tuning.json").read_text())
    assert said["sha256"] == record["sha256"]
    assert said["chosen"]["08-hot"] == {"LEARNING_RATE": "3e-4"}
    assert set(said["runs_per_arm"].values()) == {3}
