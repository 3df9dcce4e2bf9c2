"""Disk and time are foretold from parameters and from finished cells."""

import os
import socket

import pytest

from matrix import facts, forecast
from records import atomic
from records.jsonl import open_append

P = 10_000_000


def told(plan) -> dict:
    return {forecast.facts_key(cell): {"parameters": P} for cell in plan.cells}


def finish(cell, seconds: float, host: str) -> None:
    cell.dir.path.mkdir(parents=True)
    with open_append(cell.dir.attempts) as rows:
        for k in (1, 2):  # two attempts of half the time each, an hour between
            start = {"event": "start", "attempt": k, "host": host, "time": 3600.0 * k}
            rows.append(start)
            rows.append({**start, "event": "end", "time": 3600.0 * k + seconds / 2})
    summary = {"schema": 1, "hash": cell.hash, "step": 3, "tokens": 3 * 8 * 1024}
    atomic.write_json(cell.dir.summary, summary)


def test_disk_counts_running_and_kept(checkout):
    plan = checkout.plan(JOBS="2")
    disk = forecast.disk(plan, told(plan))
    assert disk.running == 2 * 3 * 3 * 4 * P  # jobs, checkpoints, copies, bytes
    assert disk.kept == 6 * 4 * P
    lean = checkout.plan(JOBS="2", CONFIG_SAVE_MODEL="n")
    assert forecast.disk(lean, told(lean)).kept == 0
    rich = checkout.plan(JOBS="2", CONFIG_KEEP_CHECKPOINTS="y")
    assert forecast.disk(rich, told(rich)).kept == 6 * (4 * P + 2 * 3 * 4 * P)


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
        assert forecast.disk(plan, told(plan)).running == running * 4 * P


def test_a_study_that_does_not_fit_is_refused(checkout, monkeypatch):
    plan = checkout.plan()
    monkeypatch.setattr(forecast, "free_bytes", lambda path: 100 * 2**20)
    with pytest.raises(forecast.DiskError, match="572.2 MiB .* 100.0 MiB are free"):
        forecast.disk(plan, told(plan)).require()
    small = {key: {"parameters": 1000} for key in told(plan)}
    forecast.disk(plan, small).require()


def test_the_runner_refuses_it_before_anything_starts(checkout):
    checkout.stub(parameters=10**15)
    status, output = checkout.run()
    assert status == 2 and "the study needs up to" in output
    assert checkout.cells == {}


def test_free_bytes_of_a_path_that_does_not_exist(tmp_path):
    assert forecast.free_bytes(tmp_path / "a" / "b") > 0


def test_time_is_unknown_then_measured(checkout):
    assert forecast.duration(checkout.plan()).seconds is None
    here = socket.gethostname()
    cells = checkout.plan().cells
    finish(cells[0], 10, here)
    assert forecast.duration(checkout.plan()).seconds == pytest.approx(50)
    finish(cells[1], 30, here)  # its own step takes 30, the others the mean
    assert forecast.duration(checkout.plan()).seconds == pytest.approx(10 + 30 + 40)
    assert forecast.duration(checkout.plan(JOBS="2")).basis.startswith("from 2 fini")
    twice = checkout.plan(MAX_ITERS="6")
    assert forecast.duration(twice).seconds == pytest.approx(2 * (20 + 60 + 40))


def test_other_hosts_do_not_count(checkout):
    finish(checkout.plan().cells[0], 10, "elsewhere")
    assert forecast.duration(checkout.plan()).seconds is None


def test_facts_are_asked_once_per_configuration_and_code(checkout, tmp_path):
    asked = []

    def provider(paths):
        asked.append(len(paths))
        assert all(path.exists() for path in paths)
        return [{"parameters": n} for n, _ in enumerate(paths)]

    plan = checkout.plan()
    wanted = {forecast.facts_key(cell): cell.values for cell in plan.cells[:2]}
    cache = tmp_path / "cache" / "facts.json"
    first = facts.gather(wanted, plan.operational, cache, provider)
    wanted |= {forecast.facts_key(cell): cell.values for cell in plan.cells[:3]}
    second = facts.gather(wanted, plan.operational, cache, provider)
    assert asked == [2, 1]
    assert {key: second[key] for key in first} == first


def test_a_training_program_that_cannot_answer(checkout):
    stub = checkout.root / "gpt2" / "train_ra_mla.py"
    stub.write_text("import sys\nsys.exit('no torch here')\n")
    status, output = checkout.run("plan")
    assert status == 2 and "no torch here" in output
    stub.write_text("print(1)\n")
    status, output = checkout.run("plan")
    assert status == 2 and "answered 1 lines for 6 configurations" in output
