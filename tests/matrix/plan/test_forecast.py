"""Disk and time are foretold from parameters and from finished cells."""

import os
import socket
from dataclasses import replace

import pytest

from kconf import config_py
from kconf.strict import Tree
from matrix.plan import estimate, forecast, model_facts
from records import atomic, history
from records.jsonl import open_append

P = 10_000_000
B = forecast.BESIDES
F = 6 * P


def told(plan) -> dict:
    facts = {"parameters": P, "flops_per_token": F, "optimizer_bytes": {"adamw": 8 * P}}
    facts |= {"pruning_bytes": {"none": 0, "magnitude": P}}
    return {forecast.facts_key(cell): facts for cell in plan.cells}


def seconds(plan) -> float | None:
    return forecast.duration(plan, told(plan)).seconds


def records_of(cell) -> None:
    """What the runner and the training leave beside the times."""
    cell.dir.path.mkdir(parents=True)
    root = cell.dir.path.parents[4]
    before = history.as_before(cell.values)
    config_py.write(cell.dir.config_py, cell.values, Tree(root).operational, before)
    told = {"study": cell.study, "step": cell.step, "seed": cell.seed}
    told |= {"hash": cell.hash, "identity": dict(cell.identity)}
    run = {"schema": 1, "cell": told, "data_dir": "/nowhere", "code_files": {}}
    atomic.write_json(cell.dir.run_json, {**run, "provenance": {"time": 0.0}})
    with open_append(cell.dir.metrics) as rows:
        row = {"kind": "eval", "attempt": 1, "step": 3, "loss": 3.0, "tokens": 9}
        rows.append(row)


def finish(cell, seconds: float, host: str, **changes: object) -> None:
    records_of(cell)
    with open_append(cell.dir.attempts) as rows:
        for k in (1, 2):  # two attempts of half the time each, an hour between
            start = {"event": "start", "attempt": k, "host": host, "time": 3600.0 * k}
            rows.append(start)
            end = {"event": "end", "status": "done", "step": 3, "error": None}
            rows.append({**start, **end, "time": 3600.0 * k + seconds / 2})
    summary = {"schema": 1, "hash": cell.hash, "step": 3, "tokens": 3 * 8 * 1024}
    summary |= {"device": {"kind": "cpu"}, "threads": cell.threads}
    summary |= {"facts": {"flops_per_token": F, "ranks": 1}, **changes}
    summary |= {"final_eval": {"step": 3, "loss": 3.0}}
    atomic.write_json(cell.dir.summary, summary)


def test_disk_counts_running_and_kept(checkout):
    plan = checkout.plan(JOBS="2")
    disk = forecast.disk(plan, told(plan))
    assert disk.running == 2 * 3 * (3 * 4 * P + B)  # jobs, checkpoints, copies, bytes
    assert disk.kept == 6 * 4 * P
    sparse = checkout.plan(JOBS="2", CONFIG_PRUNING_MAGNITUDE="y")
    assert forecast.disk(sparse, told(sparse)).running == 2 * 3 * ((3 * 4 + 1) * P + B)
    lean = checkout.plan(JOBS="2", CONFIG_SAVE_MODEL="n")
    assert forecast.disk(lean, told(lean)).kept == 0
    rich = checkout.plan(JOBS="2", CONFIG_KEEP_CHECKPOINTS="y")
    assert forecast.disk(rich, told(rich)).kept == 6 * (4 * P + 2 * (3 * 4 * P + B))


def test_finished_cells_need_nothing(checkout):
    plan = checkout.plan()
    for cell in plan.cells[:5]:
        finish(cell, 9, "here")
    again = checkout.plan()
    assert forecast.disk(again, told(again)).kept == 4 * P


def test_checkpoints_of_an_interrupted_cell_are_there_already(checkout):
    plan = checkout.plan(STEPS="0", SEEDS="1")
    (cell,) = plan.cells
    cell.dir.checkpoint_dir.mkdir(parents=True)
    saved = cell.dir.checkpoint_dir / "step-1.pt"
    for present, running in ((0, 9), (5, 4), (9, 3)):  # in parameters' bytes
        saved.touch()
        os.truncate(saved, present * 4 * P)
        besides = B if running == 3 else 3 * B
        assert forecast.disk(plan, told(plan)).running == running * 4 * P + besides


def test_a_study_that_does_not_fit_is_refused(checkout, monkeypatch):
    plan = checkout.plan()
    monkeypatch.setattr(forecast, "free_bytes", lambda path: 100 * 2**20)
    with pytest.raises(forecast.DiskError, match="573.0 MiB .* 100.0 MiB are free"):
        forecast.disk(plan, told(plan)).require()
    small = {"parameters": 1000, "optimizer_bytes": {"adamw": 8000}}
    small |= {"pruning_bytes": {"none": 0}}
    small = {key: small for key in told(plan)}
    forecast.disk(plan, small).require()


def test_the_runner_refuses_it_before_anything_starts(checkout):
    checkout.stub(parameters=10**15)
    status, output = checkout.run()
    assert status == 2 and "the study needs up to" in output
    assert checkout.cells == {}


def test_free_bytes_of_a_path_that_does_not_exist(tmp_path):
    assert forecast.free_bytes(tmp_path / "a" / "b") > 0


def test_time_is_unknown_then_measured(checkout):
    assert seconds(checkout.plan()) is None
    here = socket.gethostname()
    cells = checkout.plan().cells
    finish(cells[0], 10, here)
    assert seconds(checkout.plan()) == pytest.approx(50)
    finish(cells[1], 30, here)  # its own step takes 30, the others the mean
    plan = checkout.plan()
    assert seconds(plan) == pytest.approx(10 + 30 + 40)
    assert forecast.duration(plan, told(plan)).basis.startswith("from 2 finished")
    jobs = replace(plan, jobs=50)  # more than there are cells: none gets faster
    assert forecast.duration(jobs, told(plan)).seconds == pytest.approx(80 / 4)
    twice = checkout.plan(MAX_ITERS="6")
    assert seconds(twice) == pytest.approx(2 * (20 + 60 + 40))


def test_a_time_budget_is_the_most_a_cell_takes(checkout):
    """Two pending cells of 30 s of arithmetic, 20 s each by their budget."""
    finish(checkout.plan().cells[0], 30, socket.gethostname())
    timed = {"CONFIG_BUDGET_TIME": "y", "CONFIG_GPT2_MAX_TIME": "20"}
    pending = {"STEPS": "0,2", "SEEDS": "2"}
    assert seconds(checkout.plan(**pending)) == pytest.approx(30 + 30)
    assert seconds(checkout.plan(**pending, **timed)) == pytest.approx(20 + 20)
    longer = {**timed, "CONFIG_GPT2_MAX_TIME": "40"}
    assert seconds(checkout.plan(**pending, **longer)) == pytest.approx(30 + 30)
    plan = checkout.plan(**pending, **timed)
    found = [one.seconds for one in estimate.estimates(plan, told(plan))]
    assert found == pytest.approx([20, 20])


def test_time_scales_with_the_arithmetic(checkout):
    finish(checkout.plan().cells[0], 10, socket.gethostname())
    plan = checkout.plan(STEPS="0,2", SEEDS="2")
    known = told(plan)
    known[forecast.facts_key(plan.cells[1])] = {"flops_per_token": 3 * F}
    assert forecast.duration(plan, known).seconds == pytest.approx(10 + 30)


def test_other_hosts_devices_and_threads_do_not_count(checkout):
    here = socket.gethostname()
    first, second, *_ = checkout.plan().cells
    finish(first, 10, "elsewhere")
    assert seconds(checkout.plan()) is None
    finish(second, 10, here, device={"kind": "cuda"})
    assert seconds(checkout.plan()) is None
    third = checkout.plan().cells[2]
    finish(third, 10, here, facts={"flops_per_token": F, "ranks": 2})
    assert seconds(checkout.plan()) is None
    assert seconds(checkout.plan(JOBS="2")) is None
    finish(checkout.plan(JOBS="2").cells[0], 10, here)  # one thread
    assert seconds(checkout.plan()) is None
    assert seconds(checkout.plan(JOBS="2")) == pytest.approx(25)


def test_damaged_runs_do_not_count(checkout):
    here = socket.gethostname()
    cells = checkout.plan(MAX_ITERS="7").cells
    finish(cells[0], 10, here)
    finish(cells[1], 10, here, device=None)
    finish(cells[2], 10, here)
    cells[0].dir.heartbeat.write_text("")  # empty: nobody beats
    cells[2].dir.summary.write_text("")
    status, output = checkout.run("plan", MAX_ITERS="14", STEPS="0")
    assert status == 0, output
    assert "from 1 finished cell on this host; 2 damaged runs left out" in output


def test_facts_are_asked_once_per_network_and_code(checkout, tmp_path):
    asked = []

    def provider(paths):
        asked.append(len(paths))
        assert all(path.exists() for path in paths)
        facts = {"flops_per_token": 6, "optimizer_bytes": {}, "pruning_bytes": {}}
        return [{**facts, "parameters": n} for n, _ in enumerate(paths)]

    plan = checkout.plan()
    wanted = {forecast.facts_key(cell): cell.values for cell in plan.cells[:1]}
    cache = tmp_path / "cache" / "facts.json"
    first = model_facts.gather(wanted, plan.operational, cache, provider)
    wanted |= {forecast.facts_key(cell): cell.values for cell in plan.cells}
    second = model_facts.gather(wanted, plan.operational, cache, provider)
    assert asked == [1, 1], "the control's, shared with 08-hot; 02-wide's"
    assert {key: second[key] for key in first} == first
    (checkout.root / "gpt2" / "counting.py").write_text("x = 1\n")
    again = checkout.plan()
    assert again.cells[0].hash == plan.cells[0].hash, "no run imports it"
    assert forecast.facts_key(again.cells[0]) not in wanted, "what counts may"


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', "\x00"])
def test_a_damaged_cache_is_forgotten(checkout, text):
    assert checkout.run("plan", SEEDS="1")[0] == 0
    cache = checkout.root / "results" / ".cache" / "facts.json"
    whole = cache.read_text()
    cache.write_text(text)
    status, output = checkout.run("plan", SEEDS="1")
    assert status == 0 and "facts.json: " in output and "computed again" in output
    assert cache.read_text() == whole
    assert "note" not in checkout.run("plan", SEEDS="1")[1]


def test_a_training_program_that_cannot_answer(checkout):
    stub = checkout.root / "gpt2" / "train_ra_mla.py"
    stub.write_text("import sys\nsys.exit('no torch here')\n")
    status, output = checkout.run("plan")
    assert status == 2 and "no torch here" in output
    stub.write_text("print(1)\n")
    status, output = checkout.run("plan")
    assert status == 2 and "answered 1 lines for 2 configurations" in output
