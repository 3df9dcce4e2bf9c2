"""Cells: which, in what order, with which identity, and why they are to run."""

import json

import pytest

from kconf import config_py
from kconf.bind import SettingsError
from kconf.strict import ConfigError
from matrix.launch import prepare
from matrix.plan.cells import PlanError
from matrix.results.whole_run import identity_hash
from records import atomic, history
from records.codehash import combined
from records.jsonl import open_append
from records.lease import Lease
from records.gpu_masks import MaskError
from records.manifest import MissingDataset


def names(plan) -> list[str]:
    return [cell.name for cell in plan.cells]


def record(plan, cell, time: float = 1.0) -> None:
    """As if the cell had been launched at `time`."""
    prepare.write(plan, cell, ["python"], {"time": time})


def finish(cell) -> None:
    last = {"step": 3, "loss": 3.0}
    with open_append(cell.dir.metrics) as rows:
        rows.append({"kind": "eval", "attempt": 1, "tokens": 9, **last})
    summary = {"schema": 1, "hash": cell.hash, "step": 3, "final_eval": last}
    atomic.write_json(cell.dir.summary, summary)


# -- the file that people's scripts read


def test_what_config_py_says_is_what_runs(checkout):
    """A .config that was edited alone, or has no config.py, is not run."""
    config, python = checkout.root / ".config", checkout.root / "config.py"
    read = config_py.read(python).values
    assert {cell.values["MLP_DIM"] for cell in checkout.plan(STEPS="0").cells} == {
        read["MLP_DIM"]
    }
    text = config.read_text()
    config.write_text(text.replace("CONFIG_LOG_INTERVAL=", "CONFIG_LOG_INTERVAL=9"))
    with pytest.raises(ConfigError, match=r"config\.py.*not that of .*make config\.py"):
        checkout.plan()
    config.write_text(text)
    checkout.plan()
    python.unlink()
    with pytest.raises(ConfigError, match="run make config.py"):
        checkout.plan()


# -- which cells, in what order


def test_seeds_outer_steps_inner(checkout):
    plan = checkout.plan(SEEDS="5,2")
    steps = ["00-control", "02-wide", "08-hot"]
    assert names(plan) == [f"{step} seed-{n}" for n in (5, 2) for step in steps]
    assert [cell.control for cell in plan.cells] == [True, False, False] * 2
    assert plan.cells[1].help == "a wider MLP"
    assert plan.cells[1].values["MLP_DIM"] == 1024
    assert [cell.values["SEED"] for cell in plan.cells] == [5, 5, 5, 2, 2, 2]
    assert len({cell.hash for cell in plan.cells}) == 6


@pytest.mark.parametrize(
    "selection, chosen",
    [("0,8", [0, 8]), ("8,2", [2, 8]), ("all", [0, 2, 8]), ("8-8", [8])],
)
def test_selection(checkout, selection, chosen):
    plan = checkout.plan(STEPS=selection, SEEDS="1")
    assert [int(cell.step[:2]) for cell in plan.cells] == chosen
    reference = [] if 0 in chosen else ["00-control seed-1"]
    assert [cell.name for cell in plan.reference] == reference


def test_selection_with_a_range(checkout):
    checkout.step("09-cold", '# Help: low\nCONFIG_LEARNING_RATE="2e-4"\n')
    plan = checkout.plan(STEPS="0,2,8-9", SEEDS="1")
    assert [cell.step[:2] for cell in plan.cells] == ["00", "02", "08", "09"]


@pytest.mark.parametrize(
    "selection, why", [("0,7", "has no step 7; it has 0, 2, 8"), ("0,x", "'x' is not")]
)
def test_a_selection_of_nothing_is_an_error(checkout, selection, why):
    with pytest.raises(SettingsError, match=why):
        checkout.plan(STEPS=selection)


def test_single_mode(checkout):
    checkout.base = checkout.base.replace("RA_MLA_ABLATION_MODE", "SINGLE_RUN_MODE")
    checkout.configure()
    assert names(checkout.plan()) == ["single seed-1", "single seed-2"]


@pytest.mark.parametrize(
    "text, why",
    [
        ("CONFIG_SEED=4\n", "09-x: CONFIG_SEED is set per cell"),
        ("CONFIG_MLP_DIN=4\n", "not defined"),
        ("CONFIG_MLP_DIM=1024\n", "same configuration as 02-wide"),
        ("", "same configuration as 00-control"),
        ("CONFIG_MLP_DIM=512\n", "does not matter"),
    ],
)
def test_steps_are_checked(checkout, text, why):
    checkout.step("09-x", f"# Help: x\n{text}")
    with pytest.raises((PlanError, ConfigError), match=why):
        checkout.plan()


def test_no_configuration(checkout):
    (checkout.root / ".config").unlink()
    with pytest.raises(ConfigError, match="make defconfig-NAME"):
        checkout.plan()


def test_seed_cannot_be_overridden(checkout):
    with pytest.raises(PlanError, match="CONFIG_SEED is set per cell"):
        checkout.plan(CONFIG_SEED="4")


def test_missing_dataset(checkout):
    with pytest.raises(MissingDataset, match="make data"):
        checkout.plan(CONFIG_VAL_FRACTION="0.1")


# -- identity


def test_operational_symbols_do_not_enter_the_hash(checkout):
    before = [cell.hash for cell in checkout.plan().cells]
    other = checkout.plan(CONFIG_LOG_INTERVAL="3", JOBS="1", FAIL_FAST="1")
    assert [cell.hash for cell in other.cells] == before
    longer = checkout.plan(MAX_ITERS="4")
    assert not set(before) & {cell.hash for cell in longer.cells}
    assert longer.overrides == {"GPT2_MAX_ITERS": "4"}


def test_hash_is_that_of_the_identity(checkout):
    cell, *_ = checkout.plan().cells
    parts = {"config", "code", "code_rule", "dataset", "threads"}
    assert set(cell.identity) == parts and cell.identity["code_rule"] == 2
    assert cell.hash == identity_hash(dict(reversed(cell.identity.items())))
    assert cell.dir.path.name == cell.hash[:8]
    assert cell.identity["threads"] == 2


def test_what_a_0_stands_for_is_told_and_recorded(checkout):
    larger = {"CONFIG_GPT2_SIZE_350M": "y"}
    plan = checkout.plan(**larger)
    assert "CONFIG_MLP_DIM=0 is 4096 (4 E)" in plan.notes
    assert plan.cells[0].values["MLP_DIM"] == 4096
    assert "CONFIG_MLP_DIM=0\n" in plan.cells[0].dotconfig
    checkout.base += "CONFIG_MLP_DIM=512\n"
    checkout.configure()
    assert "CONFIG_MLP_DIM=0 is" not in "".join(checkout.plan().notes)
    told = "CONFIG_MLP_DIM=512 is as written: 0 would be 4096 (4 E)"
    assert told in checkout.plan(**larger).notes


def test_a_sparse_mixer_that_reads_everything_is_told(checkout):
    sparse = {"CONFIG_MIXER_NSA": "y", "CONFIG_GPT2_BLOCK_SIZE": "64"}
    told = "every block is read: 16 (CONFIG_NSA_TOP) of 64 tokens"
    assert told in "\n".join(checkout.plan(**sparse).notes)
    fewer = {**sparse, "CONFIG_LENGTH_DIVISOR": "16", "CONFIG_NSA_TOP": "8"}
    assert "every block" not in "\n".join(checkout.plan(**fewer).notes)


def test_auto_is_resolved_once_and_printed(checkout):
    plan = checkout.plan(DEVICE="auto")
    told = "DEVICE=auto is cpu on this machine"
    assert plan.notes[0] == f"{told}: torch finds no GPU"
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    notes = checkout.plan(DEVICE="auto", **hidden).notes
    assert notes[0] == f"{told}: CUDA_VISIBLE_DEVICES=-1 hides every GPU"
    with pytest.raises(MaskError, match="CUDA_VISIBLE_DEVICES=all: 'all' is neither"):
        checkout.plan(DEVICE="auto", CUDA_VISIBLE_DEVICES="all")
    assert [c.hash for c in plan.cells] == [c.hash for c in checkout.plan().cells]
    cell = plan.cells[0]
    assert cell.values["DEVICE_CPU"] and not cell.values["DEVICE_AUTO"]


def test_a_rate_that_nobody_uses_is_questioned(checkout):
    """Of the steps that have it; of every step without their names."""
    asked = "CONFIG_LEARNING_RATE=99: CONFIG_OPTIMIZER_ADAMW is used with 1e-07 to 0.1"

    def warnings(**environment: str) -> list[str]:
        notes = checkout.plan(**environment).notes
        lines = [note for note in notes if note.startswith("warning: ")]
        return [line.partition(": is it meant?")[0] for line in lines]

    assert warnings() == []
    assert warnings(STEPS="0,2", CONFIG_LEARNING_RATE="99") == [f"warning: {asked}"]
    checkout.step("08-hot", '# Help: hot\nCONFIG_LEARNING_RATE="99"\n')
    assert warnings() == [f"warning: 08-hot: {asked}"]


def test_the_ranks_of_a_cpu_cell_share_its_cores(checkout):
    ranks = {"CONFIG_GPUS_PER_RUN": "2", "CONFIG_EFFECTIVE_BATCH": "64"}
    plan = checkout.plan(**ranks)
    assert (plan.jobs, plan.cells[0].threads) == (1, 1)
    assert "1 at a time, 2 threads each, 2 cores" in plan.notes
    plan = checkout.plan(CONFIG_CPU_THREADS="1", **ranks)
    assert (plan.jobs, plan.cells[0].threads) == (1, 1), "two ranks of a thread"


def test_a_gpu_cell_has_no_thread_count(checkout):
    cell, *_ = checkout.plan(DEVICE="cuda").cells
    assert cell.threads is None and cell.identity["threads"] is None
    assert cell.values["DEVICE_CUDA"] and not cell.values["DEVICE_CPU"]


def test_jobs_share_the_cores(checkout):
    plan = checkout.plan(JOBS="2")
    assert (plan.jobs, plan.cells[0].threads) == (2, 1)
    assert "2 at a time, 1 thread each, 2 cores" in plan.notes
    crowded = checkout.plan(JOBS="2", CONFIG_CPU_THREADS="2")
    assert "more threads than cores: expect it to be very slow" in crowded.notes


def test_the_cells_files_can_be_read_back(checkout):
    plan = checkout.plan()
    cell = plan.cells[1]
    record(plan, cell)
    read = config_py.read(cell.dir.config_py)
    assert read.values == cell.values and read.identity == cell.identity["config"]
    # the cell's .config is a full configuration of its own
    again = checkout.plan(KCONFIG_CONFIG=str(cell.dir.dotconfig), STEPS="0")
    assert again.cells[0].values["MLP_DIM"] == 1024


# -- reasons


def test_never_ran(checkout):
    assert {c.reason for c in checkout.plan().cells} == {"never ran"}


def test_changed_symbols_are_named(checkout):
    plan = checkout.plan()
    record(plan, plan.cells[0])
    changed = checkout.plan(
        MAX_ITERS="9", CONFIG_GPT2_DROPOUT="0.5", CONFIG_LOG_INTERVAL="3"
    ).cells[0]
    assert changed.state == "new"
    assert changed.reason == (
        'CONFIG_GPT2_DROPOUT "0.0" → "0.5"; CONFIG_GPT2_MAX_ITERS 3 → 9'
    )
    assert checkout.plan(MAX_ITERS="9").cells[1].reason == "never ran"


def test_the_newest_sibling_is_compared(checkout):
    plan, later = checkout.plan(), checkout.plan(MAX_ITERS="9")
    record(plan, plan.cells[0], time=1.0)
    record(later, later.cells[0], time=2.0)
    newest = checkout.plan(MAX_ITERS="10").cells[0]
    assert newest.reason == "CONFIG_GPT2_MAX_ITERS 9 → 10"


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1, "cell": {}}'])
def test_a_damaged_sibling_is_named_and_not_compared(checkout, text):
    plan, later = checkout.plan(), checkout.plan(MAX_ITERS="9")
    record(plan, plan.cells[0])
    record(later, later.cells[0])
    later.cells[0].dir.run_json.write_text(text)
    reason = checkout.plan(MAX_ITERS="10").cells[0].reason
    start = "CONFIG_GPT2_MAX_ITERS 3 → 10 (not compared, damaged: "
    assert reason.startswith(start + str(later.cells[0].dir.run_json))


def test_changed_code_is_named(checkout):
    plan = checkout.plan()
    record(plan, plan.cells[0])
    (checkout.root / "gpt2" / "extra.py").write_text("import kernels\n")
    (checkout.root / "gpt2" / "idle.py").write_text("x = 1\n")
    assert checkout.plan().cells[0].hash == plan.cells[0].hash, "nothing imports them"
    entry = checkout.root / "gpt2" / "train_ra_mla.py"
    entry.write_text(entry.read_text() + "import gpt2.extra\n")
    cell = checkout.plan().cells[0]
    assert cell.reason == (
        "code changed: +gpt2/extra.py, gpt2/train_ra_mla.py, +kernels/__init__.py"
    )


YOUNGER = """
config YOUNGER
	int "Younger than the runs"
	default 3
	help
	  Three is what was done before it.
	  [identity]
"""


def test_a_symbol_that_came_later(checkout, monkeypatch):
    """Where it has the value of what was done before, a finished cell stays done."""
    plan = checkout.plan()
    record(plan, plan.cells[0])
    finish(plan.cells[0])
    with open(checkout.root / "gpt2" / "Kconfig", "a") as kconfig:
        kconfig.write(YOUNGER)
    checkout.configure()
    cell = checkout.plan().cells[0]
    assert (cell.state, cell.reason) == ("new", "CONFIG_YOUNGER (absent) → 3")
    monkeypatch.setitem(history.ADDED, "YOUNGER", 3)
    cell = checkout.plan().cells[0]
    assert (cell.state, cell.hash) == ("done", plan.cells[0].hash)
    changed = checkout.plan(CONFIG_YOUNGER="4").cells[0]
    assert (changed.state, changed.reason) == ("new", "CONFIG_YOUNGER 3 → 4")


def test_code_by_another_rule_is_other_code(checkout):
    """Of a record without a rule it was the first."""
    plan = checkout.plan()
    record(plan, plan.cells[0])
    path = plan.cells[0].dir.run_json
    run = json.loads(path.read_text())
    del run["cell"]["identity"]["code_rule"]
    former = path.parent.with_name("01234567")
    path.parent.rename(former)
    run["cell"]["hash"] = "01234567" * 8
    atomic.write_json(former / "run.json", run)
    cell = checkout.plan().cells[0]
    assert cell.reason == "code of another rule: 1 → 2"


def test_code_that_cannot_be_followed_is_refused(checkout):
    entry = checkout.root / "gpt2" / "train_ra_mla.py"
    entry.write_text(entry.read_text() + 'CHOSEN = {"gpt2.gone": ("NO_SYMBOL",)}\n')
    status, output = checkout.run("plan")
    assert status == 2
    assert "error: gpt2/train_ra_mla.py: CHOSEN names NO_SYMBOL" in output


def test_changed_dataset_and_threads(checkout):
    plan = checkout.plan()
    record(plan, plan.cells[0])
    checkout.pack(plan.cells[0].values, sha="b" * 64)
    cell = checkout.plan(JOBS="2").cells[0]
    dataset, threads = cell.reason.split("; ")
    assert dataset.startswith("dataset changed: ") and "→" in dataset
    assert threads == "threads changed: 2 → 1"


def test_states_of_a_known_cell(checkout):
    plan = checkout.plan()
    done, failed, stopped, held = plan.cells[:4]
    for cell in plan.cells[:4]:
        record(plan, cell)
    finish(done)
    atomic.write_json(failed.dir.failure, {"attempt": 0, "error": "exit status 1"})
    with open_append(stopped.dir.attempts) as rows:
        rows.append({"event": "start", "attempt": 1, "time": 1.0})
    with Lease(held.dir.lease).acquire():
        again = checkout.plan()
    assert [cell.state for cell in again.cells] == (
        ["done", "failed", "interrupted", "running", "new", "new"]
    )
    reasons = [cell.reason for cell in again.cells]
    assert reasons[0] == "done, 3 steps"
    assert reasons[1] == "failed before: exit status 1"
    assert reasons[2] == "interrupted, begins anew: no checkpoint"
    assert reasons[3].startswith("running in ")
    assert [c.name for c in again.pending] == names(again)[1:]


def test_run_json_holds_the_identity_and_where_it_comes_from(checkout):
    plan = checkout.plan(MAX_ITERS="4")
    cell = plan.cells[1]
    record(plan, cell)
    run = json.loads(cell.dir.run_json.read_text())
    assert run["schema"] == 1 and run["cell"]["hash"] == cell.hash
    assert run["cell"]["identity"] == cell.identity
    assert run["overrides"] == {"GPT2_MAX_ITERS": "4"}
    assert run["code_files"] == cell.code_files
    assert combined(run["code_files"]) == cell.identity["code"]
    assert set(run["code_files"]) == {"gpt2/__init__.py", "gpt2/train_ra_mla.py"}
    assert run["data_dir"] == str(cell.dataset)


def test_a_metric_does_not_average_two_texts(checkout):
    """The last evaluations, of which the last reads more windows than the others."""
    two = {"CONFIG_METRIC_LAST_EVALS": "3"}
    assert checkout.plan(**two).cells
    assert checkout.plan(CONFIG_GPT2_FINAL_EVAL_WINDOWS="9").cells
    with pytest.raises(ConfigError, match="another text than those before it"):
        checkout.plan(**two, CONFIG_GPT2_FINAL_EVAL_WINDOWS="9")
