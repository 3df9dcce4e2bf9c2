"""A plan whose one-shot overrides make other runs than .config does is a trial."""

import pytest

from kconf.overrides import COMMAND_LINE

TIME = {"TIME": "60", COMMAND_LINE: "TIME"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"SEEDS": "1-3", "STEPS": "2,8", "JOBS": "1", "OUTPUT": "elsewhere"},
        {"METRIC": "bits_per_byte", "SMALLEST": "0.01", "CONFIG_SAVE_MODEL": "n"},
        {"MAX_ITERS": "3", "DEVICE": "cpu"},
        {"DEVICE": "auto"},
        {"TIME": "60"},
    ],
)
def test_what_selects_or_changes_nothing_is_none(checkout, given):
    plan = checkout.plan(**given)
    assert plan.trial == ()
    usual = {(cell.step, cell.seed): cell.hash for cell in checkout.plan().cells}
    for cell in plan.cells:
        assert usual.get((cell.step, cell.seed), cell.hash) == cell.hash
    assert [note for note in plan.notes if "TIME" in note] == [
        f"TIME={60} in the environment is not read: make TIME=60"
    ] * ("TIME" in given)
    assert plan.cells[0].values["GPT2_MAX_TIME"] == 0


def test_threads_are_part_of_a_cell_of_a_cpu(checkout):
    """Where they follow JOBS= the cells are others, and so is the report."""
    checkout.configure("CONFIG_CPU_THREADS=0", "CONFIG_JOBS=1")
    given = {"JOBS": "2"}
    plan, one = checkout.plan(**given), checkout.plan()
    assert {c.threads for c in plan.cells} == {1} and {
        c.threads for c in one.cells
    } == {2}
    assert plan.trial == ("JOBS=2",) and one.trial == ()
    checkout.configure("CONFIG_CPU_THREADS=1", "CONFIG_JOBS=1")
    assert checkout.plan(**given).trial == ()


@pytest.mark.parametrize(
    "given, trial",
    [
        ({"MAX_ITERS": "7", "SEEDS": "1"}, ("MAX_ITERS=7",)),
        ({"CONFIG_GPT2_DROPOUT": "0.1"}, ("CONFIG_GPT2_DROPOUT=0.1",)),
        ({"CONFIG_GPT2_SIZE_124M": "y"}, ("CONFIG_GPT2_SIZE_124M=y",)),
        ({"DEVICE": "cuda"}, ("DEVICE=cuda",)),
        (TIME, ("TIME=60",)),
    ],
)
def test_what_changes_the_runs_is_named(checkout, given, trial):
    plan = checkout.plan(**given)
    assert plan.trial == trial
    former = {cell.hash for cell in checkout.plan(SEEDS=plan.settings.seeds).cells}
    assert former.isdisjoint(cell.hash for cell in plan.cells)


def test_a_device_that_auto_would_take_is_none(checkout):
    checkout.configure("CONFIG_DEVICE_AUTO=y")
    assert checkout.plan(DEVICE="cpu").trial == ()
    assert checkout.plan(DEVICE="cuda").trial == ("DEVICE=cuda",)
