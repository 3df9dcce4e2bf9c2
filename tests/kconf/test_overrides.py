"""One-shot settings from the environment."""

import json

import pytest

from kconf.overrides import COMMAND_LINE, TABLE, Overrides
from kconf.overrides import from_environment, refuse_bare, unread
from kconf.strict import ConfigError


def test_every_name_leads_to_a_symbol(real):
    for name, target in TABLE.items():
        leads = [target] if isinstance(target, str) else [s for s, _ in target.values()]
        assert set(leads) <= set(real.symbols), name
        for symbol in leads:
            said = {s for s in (symbol, *real.siblings(symbol))}
            helps = " ".join(real.help(s) for s in said)
            choice = [node.help or "" for s in said for node in nodes(real, s)]
            assert f"{name}=" in helps + " ".join(choice), f"the help omits {name}="


def nodes(tree, symbol):
    choice = tree.kconfig.syms[symbol].choice
    return choice.nodes if choice else []


def test_nothing_set():
    assert from_environment({"PATH": "/bin", "MAX_ITERS": ""}) == {}


def test_a_symbol_can_be_emptied(real) -> None:
    overrides = from_environment({"CONFIG_HF_PATH": ""})
    assert overrides == {"HF_PATH": ""}
    stages = [Overrides({"DATASET_TINYSTORIES": "y", "HF_PATH": "folder"}), overrides]
    assert real.resolve(stages).values["HF_PATH"] == ""


@pytest.mark.parametrize("symbol", ["SEED", "RA", "RA_ALPHA"])
def test_what_is_no_string_cannot_be_empty(real, symbol: str) -> None:
    with pytest.raises(ConfigError, match=f"CONFIG_{symbol}= .environment."):
        real.resolve([from_environment({f"CONFIG_{symbol}": ""})])


def test_time_counts_on_the_command_line_alone():
    """In the environment it is GNU time's."""
    assert from_environment({"TIME": "60"}) == {}
    typed = {"TIME": "60", COMMAND_LINE: "SEEDS TIME"}
    assert from_environment(typed) == {"GPT2_MAX_TIME": "60"}
    assert from_environment({"SEEDS": "1", COMMAND_LINE: ""}) == {"SEEDS": "1"}
    assert unread({"TIME": "60"}) and not unread(typed)
    assert not unread({"TIME": "%e s"}) and not unread({})


def test_a_symbol_without_its_prefix_is_named(real):
    identity = {*real.symbols} - real.operational
    given = {"LEARNING_RATE": "1\n", "SEED": "1", "WINDOW": "2", "MLA": "", "JOBS": "1"}
    with pytest.raises(ConfigError) as caught:
        refuse_bare({**given, "LOG_INTERVAL": "3", "PATH": "/bin"}, identity)
    assert str(caught.value) == (
        "LEARNING_RATE='1\\n': write CONFIG_LEARNING_RATE=, or unset it"
    )


def test_foreign_variables():
    assert from_environment({"CONFIG_SITE": "/x", "CONFIG_SHELL": "/bin/sh"}) == {}


def test_names_and_symbols(real):
    found = from_environment(
        {
            "MAX_ITERS": "100",
            "SEEDS": "1-2",
            "DEVICE": "cpu",
            "FAIL_FAST": "1",
            "CONFIG_LEARNING_RATE": "1e-3",
            "CONFIG_GPT2_BIAS": "n",
        }
    )
    assert json.loads(json.dumps(found)) == {
        "CONFIG_LEARNING_RATE"[7:]: "1e-3",
        "GPT2_BIAS": "n",
        "DEVICE_CPU": "y",
        "FAIL_FAST": "y",
        "GPT2_MAX_ITERS": "100",
        "SEEDS": "1-2",
    }
    values = real.resolve([found]).values
    assert values["GPT2_MAX_ITERS"] == 100 and values["LEARNING_RATE"] == "1e-3"
    assert values["DEVICE_CPU"] and values["FAIL_FAST"]
    assert not values["GPT2_BIAS"] and not values["DEVICE_AUTO"]


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"DEVICE": "gpu"}, "DEVICE=gpu (environment): 'gpu' is none of auto, cpu"),
        ({"DEVICE": "CPU"}, "'CPU' is none of"),
        ({"FAIL_FAST": "yes"}, "'yes' is none of 1, y, 0, n"),
        (
            {"MAX_ITERS": "5", "CONFIG_GPT2_MAX_ITERS": "5"},
            "CONFIG_GPT2_MAX_ITERS: is already set by CONFIG_GPT2_MAX_ITERS=5",
        ),
    ],
)
def test_a_refused_environment(environment, message):
    with pytest.raises(ConfigError) as caught:
        from_environment(environment)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"MAX_ITERS": "1e3"}, "MAX_ITERS=1e3 (environment): CONFIG_GPT2_MAX_ITERS: "),
        ({"MAX_ITERS": "0"}, "0 is out of range (1 to 1000000000)"),
        ({"JOBS": " 2"}, "is not an int"),
        ({"STEPS": "0,2"}, "needs RA_MLA_ABLATION_MODE"),
        ({"AXES": "CONFIG_SEED=1"}, "needs TEST_MATRIX_MODE"),
        ({"CONFIG_GPT2_BAIS": "n"}, "did you mean CONFIG_GPT2_BIAS?"),
        ({"CONFIG_GPT2_BIAS": "false"}, "is not a bool"),
        ({"CONFIG_": "y"}, "is not defined"),
        (
            {"DEVICE": "cpu", "CONFIG_DEVICE_CUDA": "y"},
            "CONFIG_DEVICE_CUDA=y (environment) already sets",
        ),
        ({"OUTPUT": '"x"'}, "has no quotes"),
        ({"OUTPUT": "x\ny"}, "unprintable"),
    ],
)
def test_the_merge_judges_overrides(real, environment, message):
    with pytest.raises(ConfigError) as caught:
        real.resolve([from_environment(environment)])
    assert message in str(caught.value) and len(caught.value.findings) == 1
