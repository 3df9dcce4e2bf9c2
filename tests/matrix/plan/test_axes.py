"""The test matrix as a plan: its arms, what is excluded, what is refused."""

import json
import time

import pytest

from kconf.bind import SettingsError
from kconf.strict import ConfigError
from matrix import run
from matrix.launch import prepare
from matrix.plan.cells import PlanError
from matrix.report import write

REPORT = run._report
AXES = "CONFIG_MLP_DIM=256,512"


@pytest.fixture
def matrix(checkout):
    """plan = matrix(OPTIMIZERS="adamw", …, lines=(…), STEPS=…): a plan of lists."""
    checkout.base = checkout.base.replace("RA_MLA_ABLATION_MODE", "TEST_MATRIX_MODE")

    def plan(*lines, environment={}, **lists):
        written = [f'CONFIG_MATRIX_{name}="{raw}"' for name, raw in lists.items()]
        checkout.configure(*written, *lines)
        return checkout.plan(**{"SEEDS": "1", **environment})

    return plan


def ids(plan) -> list[str]:
    return [cell.step for cell in plan.cells]


def test_any_symbol_is_an_axis(matrix, checkout):
    axes = "CONFIG_MLP_DIM=256,512; CONFIG_GPT2_DROPOUT=0.1"
    plan = matrix(LEARNING_RATES="3e-4,6e-4", AXES=axes)
    assert ids(plan) == [
        "lr3e-4-mlp-dim-256-gpt2-dropout-0.1",
        "lr6e-4-mlp-dim-256-gpt2-dropout-0.1",
        "lr3e-4-mlp-dim-512-gpt2-dropout-0.1",
        "lr6e-4-mlp-dim-512-gpt2-dropout-0.1",
    ]
    assert [cell.control for cell in plan.cells] == [True, False, False, False]
    assert plan.cells[2].values["MLP_DIM"] == 512
    assert plan.cells[1].values["LEARNING_RATE"] == "6e-4"
    assert plan.cells[1].dir.path.parts[-3] == ids(plan)[1]


def test_optimizers_pruning_sparsities_and_rates(matrix):
    plan = matrix(
        OPTIMIZERS="adamw,adamwspam",
        PRUNING="none,magnitude",
        SPARSITIES="0.5,0.7",
        LEARNING_RATES="6e-4,3e-3",
    )
    one = ["adamw-lr6e-4", "adamw-magnitude-50-lr6e-4", "adamw-magnitude-70-lr6e-4"]
    two = [name.replace("6e-4", "3e-3") for name in one]
    three = [name.replace("adamw", "adamwspam") for name in [*one, *two]]
    assert ids(plan) == [*one, *two, *three]
    spam = next(c for c in plan.cells if c.step == "adamwspam-magnitude-70-lr3e-3")
    assert spam.values["OPTIMIZER_ADAMWSPAM"] and not spam.values["OPTIMIZER_ADAMW"]
    assert (spam.values["LEARNING_RATE"], spam.values["PRUNING_SPARSITY"]) == (
        "3e-3",
        "0.7",
    )
    assert spam.values["ADAM_BETA2"] == "0.999", "what SPAM's threshold assumes"
    assert spam.arm == {
        "point": {
            "optimizer": "adamwspam",
            "pruning": "magnitude",
            "sparsity": "0.7",
            "learning_rate": "3e-3",
        },
        "dense": "adamwspam-lr3e-3",
    }
    dense = next(c for c in plan.cells if c.step == "adamwspam-lr3e-3")
    assert dense.arm["dense"] is None and dense.values["PRUNING_NONE"]


def test_records_hold_the_arm(matrix):
    plan = matrix(PRUNING="none,magnitude", SPARSITIES="0.7")
    cell = plan.cells[1]
    prepare.write(plan, cell, ["python"], {"time": 1.0})
    run = json.loads(cell.dir.run_json.read_text())["cell"]
    assert run["fragment"] == (
        "# Help: optimizer adamw, pruning magnitude, sparsity 0.7, learning_rate 6e-4\n"
        'CONFIG_PRUNING_MAGNITUDE=y\nCONFIG_PRUNING_SPARSITY="0.7"\n'
    )
    assert run["arm"] == json.loads(json.dumps(cell.arm))
    assert set(run["changes"]) >= {"PRUNING_MAGNITUDE", "PRUNING_SPARSITY"}


def test_records_hold_a_steps_fragment(checkout):
    plan = checkout.plan(SEEDS="1")
    prepare.write(plan, plan.cells[1], ["python"], {"time": 1.0})
    run = json.loads(plan.cells[1].dir.run_json.read_text())["cell"]
    assert run["fragment"] == "# Help: a wider MLP\nCONFIG_MLP_DIM=1024\n"
    assert run["arm"] is None


def test_an_impossible_pair_is_excluded_with_the_loaders_words(matrix, checkout):
    plan = matrix(AXES="CONFIG_MLA=y,n;CONFIG_MLA_LATENT=8,16")
    assert ids(plan) == ["mla-y-mla-latent-8", "mla-y-mla-latent-16"]
    assert [each.id for each in plan.excluded] == [
        "mla-n-mla-latent-8",
        "mla-n-mla-latent-16",
    ]
    why = plan.excluded[0].why
    assert why.startswith("CONFIG_MLA_LATENT cannot be set: needs MLA (now MLA=n)")
    status, output = checkout.run("plan", SEEDS="1")
    assert status == 0, output
    assert f"excluded: mla-n-mla-latent-8, mla-n-mla-latent-16: {why}" in output


def test_two_members_of_a_choice_are_no_arm(matrix):
    plan = matrix(AXES="CONFIG_MLA=n,y;CONFIG_POSITION_ROPE=n,y")
    assert [each.id for each in plan.excluded] == ["mla-y-position-rope-y"]
    assert "needs POSITION_LEARNED" in plan.excluded[0].why


def test_a_one_shot_axis(matrix):
    rates = {"AXES": "CONFIG_LEARNING_RATE=3e-4,1e-3"}
    plan = matrix(OPTIMIZERS="adamw,adamwspam", environment=rates)
    assert ids(plan)[:2] == ["adamw-lr3e-4", "adamw-lr1e-3"]
    plan = matrix(LEARNING_RATES="1e-2", environment=rates)
    assert ids(plan) == ["lr3e-4", "lr1e-3"]
    assert "AXES replaces CONFIG_MATRIX_LEARNING_RATES=1e-2" in plan.notes
    assert plan.overrides["MATRIX_AXES"] == rates["AXES"]


def test_selection_by_name(matrix):
    lists = dict(OPTIMIZERS="adamw,adamwspam", PRUNING="none,magnitude")
    chosen = {"ARMS": "adamwspam-magnitude"}
    plan = matrix(**lists, environment=chosen)
    assert ids(plan) == ["adamwspam-magnitude"]
    assert [cell.step for cell in plan.reference] == ["adamw", "adamwspam"]
    plan = matrix(**lists, environment={"ARMS": "adamw, *-magnitude"})
    assert ids(plan) == ["adamw", "adamw-magnitude", "adamwspam-magnitude"]
    with pytest.raises(ConfigError, match="ARMS=sgd: no arm 'sgd'; known: adamw, "):
        matrix(**lists, environment={"ARMS": "sgd"})
    with pytest.raises(ConfigError, match="STEPS=0 .*needs RA_MLA_ABLATION_MODE"):
        matrix(**lists, environment={"STEPS": "0"})


def test_the_report_begins_with_the_control(matrix, checkout, monkeypatch):
    """Also when another arm is there for the comparison only."""
    told = []
    monkeypatch.setattr(run, "_report", REPORT)
    monkeypatch.setattr(write, "write", lambda _, one: told.append(one.steps))
    monkeypatch.setattr(write, "render_terminal", lambda report: "")
    lists = dict(OPTIMIZERS="adamw,adamwspam", PRUNING="none,magnitude")
    plan = matrix(**lists, environment={"ARMS": "adamw,adamwspam-magnitude"})
    assert [cell.step for cell in plan.reference] == ["adamwspam"]
    with pytest.raises(AttributeError):  # nothing was written
        run._report(plan)
    assert told == [("adamw", "adamwspam", "adamwspam-magnitude")]


@pytest.mark.parametrize(
    "lists, error, why",
    [
        ({}, SettingsError, "has no axis"),
        ({"OPTIMIZERS": "adamw,,"}, SettingsError, "has an empty value"),
        ({"OPTIMIZERS": "adamw, adamw"}, SettingsError, "names 'adamw' twice"),
        ({"SPARSITIES": "0.5,0.50"}, SettingsError, "0.5 and 0.50 are one number"),
        ({"LEARNING_RATES": "3e-4,x"}, SettingsError, "'x' is not a number"),
        ({"LEARNING_RATES": "3e-4,nan"}, SettingsError, "'nan' is not a number"),
        ({"AXES": "MLP_DIM=1"}, SettingsError, "is not CONFIG_SYMBOL=value,value"),
        ({"AXES": "CONFIG_MLP_DIM="}, SettingsError, "has no value"),
        ({"AXES": "CONFIG_MLP_DIM=1,,2"}, SettingsError, "has an empty value"),
        ({"AXES": "CONFIG_MLP_DIM=1,1"}, SettingsError, "names '1' twice"),
        ({"AXES": f"{AXES} CONFIG_RA=y"}, SettingsError, "separated by ';'"),
        ({"AXES": f"{AXES};{AXES}"}, SettingsError, "second axis"),
        (
            {"LEARNING_RATES": "1e-3", "AXES": "CONFIG_LEARNING_RATE=3e-4"},
            SettingsError,
            "CONFIG_LEARNING_RATE has the axis CONFIG_MATRIX_LEARNING_RATES already",
        ),
        (
            {"OPTIMIZERS": "adamx"},
            ConfigError,
            "MATRIX_OPTIMIZERS: no 'adamx'; known: .*adamw, .*adamwspam",
        ),
        (
            {"PRUNING": "magnitud"},
            ConfigError,
            "MATRIX_PRUNING: no 'magnitud'; known: none, magnitude",
        ),
        (
            {"PRUNING": "magnitude:variance"},
            ConfigError,
            "only state takes a criterion",
        ),
        ({"PRUNING": "none", "SPARSITIES": "0.5"}, ConfigError, "prunes nothing"),
        ({"AXES": "CONFIG_MLP_DIN=1,2"}, ConfigError, "not defined .*MLP_DIM"),
        ({"AXES": "CONFIG_MLP_DIM=1,x"}, ConfigError, "'x' is not an int"),
        ({"AXES": "CONFIG_MLP_DIM=1,999999999"}, ConfigError, "out of range"),
        ({"AXES": "CONFIG_MLA_LATENT=8,16"}, ConfigError, "cannot be set: needs MLA"),
        ({"AXES": "CONFIG_SEED=1,2"}, ConfigError, "set per cell: use CONFIG_SEEDS"),
        ({"AXES": "CONFIG_DEVICE_CPU=y"}, ConfigError, "set per cell: use DEVICE="),
        ({"AXES": "CONFIG_LOG_INTERVAL=1,2"}, ConfigError, "is operational"),
        ({"AXES": "CONFIG_STUDY=a,b"}, ConfigError, "is operational"),
        ({"AXES": "CONFIG_OPTIMIZER_ADAMW=y"}, ConfigError, "MATRIX_OPTIMIZERS: name"),
        ({"AXES": "CONFIG_PRUNING_NONE=y,n"}, ConfigError, "MATRIX_PRUNING: name it"),
        (
            {"SPARSITIES": "0.5,1.5", "PRUNING": "magnitude"},
            ConfigError,
            "SPARSIT.*1.5",
        ),
        ({"LEARNING_RATES": "3e-4,1e-9"}, ConfigError, "MIN_LEARNING_RATE"),
        ({"AXES": "CONFIG_GPT2_DROPOUT=0,0.0"}, PlanError, "written differently"),
        (
            {"AXES": "CONFIG_GPT2_MAX_ITERS=3,4"},
            ConfigError,
            "arm gpt2-max-iters-4: trains on 32,768 tokens, the control on 24,576",
        ),
        ({"AXES": "CONFIG_BATCH_SIZE=8,16"}, ConfigError, "may not change the budget"),
    ],
)
def test_lists_are_checked(matrix, lists, error, why):
    with pytest.raises(error, match=why):
        matrix(**lists)


def test_an_axis_cannot_be_overridden(matrix):
    with pytest.raises(
        ConfigError, match="CONFIG_MLP_DIM=128: CONFIG_MLP_DIM is an ax"
    ):
        matrix(AXES=AXES, environment={"CONFIG_MLP_DIM": "128"})
    with pytest.raises(ConfigError, match="CONFIG_OPTIMIZER_ADAMWSPAM is an axis"):
        env = {"CONFIG_OPTIMIZER_ADAMWSPAM": "y"}
        matrix(OPTIMIZERS="adamw", environment=env)


def test_a_batch_may_be_an_axis_when_the_tokens_stay(matrix):
    plan = matrix("CONFIG_EFFECTIVE_BATCH=16", AXES="CONFIG_BATCH_SIZE=8,16")
    assert ids(plan) == ["batch-size-8", "batch-size-16"]


def test_the_control_is_added_and_stated(matrix):
    plan = matrix(OPTIMIZERS="adamwspam", PRUNING="magnitude")
    assert ids(plan) == ["adamwspam", "adamwspam-magnitude"]
    assert "adamwspam is added: the control, which no axis names" in plan.notes
    assert plan.cells[1].arm["dense"] == "adamwspam"


def test_a_thousand_arms_are_planned_in_seconds(matrix, checkout):
    started = time.process_time()
    plan = matrix(
        OPTIMIZERS="adamw,adamwspam",
        PRUNING="none,magnitude",
        SPARSITIES=",".join(f"0.{n}" for n in range(1, 10)),
        LEARNING_RATES=",".join(f"{n}e-3" for n in range(1, 51)),
    )
    assert len(plan.cells) == len(set(ids(plan))) == 1000
    status, output = checkout.run("plan", SEEDS="1")
    assert status == 0 and "1,000 cells" in output
    assert (checkout.root / "facts-asked").read_text() == "1\n"
    assert time.process_time() - started < 20, "two plans"
