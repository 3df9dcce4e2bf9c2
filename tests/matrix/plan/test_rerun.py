"""continue, rerun, estimate and watch over a study of stubs."""

import json
import re
import time
import zipfile

import pytest
from rich.console import Console

from kconf.overrides import COMMAND_LINE
from matrix import run
from matrix.plan import estimate, forecast
from matrix.plan.checks import PlanError
from matrix.watch import Watch, watch
from records import atomic
from records.jsonl import open_append
from records.lease import Lease

TYPED = {COMMAND_LINE: "STEPS SEEDS"}


def text_of(study) -> str:
    """The table as plain lines."""
    console = Console(width=300, record=True, file=open("/dev/null", "w"))
    console.print(Watch(study).table())
    return console.export_text()


def test_continue_starts_nothing_new(checkout):
    checkout.stub(**{"02-wide": "fail"})
    assert checkout.run(STEPS="2", SEEDS="1")[0] == 1
    checkout.stub()
    status, output = checkout.run("continue")
    assert status == 0, output
    assert output.count("start ") == 1 and "done    02-wide seed-1" in output
    assert list(checkout.cells) == ["02-wide/seed-1"]
    status, output = checkout.run("continue")
    assert status == 0 and "start " not in output


def test_rerun_moves_aside_and_overwrites_nothing(checkout):
    assert checkout.run(SEEDS="1")[0] == 0
    before = checkout.cells["02-wide/seed-1"]
    content = before.dir.metrics.read_bytes()
    path = before.dir.path
    status, output = checkout.run("rerun", SEEDS="1", STEPS="2", DRY_RUN="1")
    assert status == 0 and f"would move {path} to " in output
    assert checkout.cells["02-wide/seed-1"].summary == before.summary
    for number in (1, 2):
        status, output = checkout.run("rerun", SEEDS="1", STEPS="2", **TYPED)
        assert status == 0, output
        home = checkout.root / "results" / ".replaced" / "toy" / "02-wide" / "seed-1"
        target = home / f"{path.name}-{number}"
        assert f"moved {path} to {target}" in output
        assert output.count("start ") == 1 and "run again, was done" in output
        assert (target / "summary.json").exists()
    assert (home / f"{path.name}-1" / "metrics.jsonl").read_bytes() == content
    after = checkout.cells
    assert len(after) == 3 and len(after["02-wide/seed-1"].attempts) == 2


def test_a_rerun_that_is_refused_moves_nothing(checkout, monkeypatch):
    assert checkout.run(SEEDS="1")[0] == 0
    before = checkout.cells["02-wide/seed-1"]

    def refuse(*_):
        raise PlanError("no tracker here")

    monkeypatch.setattr(run, "mirrored", refuse)
    status, output = checkout.run("rerun", SEEDS="1", STEPS="2", **TYPED)
    assert status == 2 and "no tracker here" in output and "moved" not in output
    assert checkout.cells["02-wide/seed-1"].summary == before.summary


def test_rerun_runs_what_is_named_and_done(checkout):
    status, output = checkout.run("rerun", STEPS="0", **TYPED)
    assert status == 2 and "none of these cells is done" in output
    assert checkout.run(SEEDS="1")[0] == 0

    def nothing(choice: str, **given: str) -> None:
        before = states(checkout)
        status, output = checkout.run("rerun", **given)
        assert status == 2 and "would move" in output
        assert f"nothing was run again: `make rerun {choice}` does" in output
        assert states(checkout) == before

    def states(checkout) -> dict:
        return {name: cell.dir.path for name, cell in checkout.cells.items()}

    typed = {COMMAND_LINE: "STEPS SEEDS ALL OUTPUT"}
    nothing("ALL=1")
    nothing("ALL=1", ALL="1")
    nothing("ALL=1", ALL="0", **typed)
    nothing("SEEDS=1 STEPS=2,8", SEEDS="1", STEPS="2,8")
    nothing("ALL=1", STEPS="", SEEDS="", **typed)
    nothing("CONFIG_SEEDS=1", CONFIG_SEEDS="1", **typed)
    for given in ({"ALL": "1", COMMAND_LINE: "ALL"}, {"SEEDS": "1", **TYPED}):
        status, output = checkout.run("rerun", **given)
        assert status == 0 and output.count("run again, was done") == 3, output


FLOPS = {"parameters": 1000, "flops_per_token": 6000.0}


def told(plan) -> dict:
    return {forecast.facts_key(cell): FLOPS for cell in plan.cells}


def finished(checkout, directory, seconds: float, watts: float | None = None) -> None:
    """Make a finished stub's run look as long as this."""
    summary = json.loads((directory / "summary.json").read_text())
    summary |= {"threads": 1, "tokens": 3 * 8 * 1024}
    atomic.write_json(directory / "summary.json", summary)
    rows = [json.loads(line) for line in open(directory / "attempts.jsonl")]
    for row in rows:
        if row["event"] == "end":
            row["seconds"] = seconds
    lines = [json.dumps(row) + "\n" for row in rows]
    (directory / "attempts.jsonl").write_text("".join(lines))
    if watts is not None:
        with open_append(directory / "gpu.jsonl") as file:
            for power in (watts - 50, watts + 50):
                row = {"attempt": 1, "time": power, "gpu/0/power_w": power}
                file.append({**row, "gpu/1/power_w": 100.0})
            alone = {"attempt": 1, "time": 9.0, "gpu/0/power_w": 1.0}
            file.append(alone)  # the other was asleep


def test_estimates_say_what_they_go_by(checkout):
    environment = {"JOBS": "2", "CONFIG_CPU_THREADS": "1"}
    found = estimate.estimates(checkout.plan(**environment), told(checkout.plan()))
    assert {one.seconds for one in found} == {None}
    assert {one.basis for one in found} == {estimate.UNKNOWN}

    assert checkout.run(STEPS="2", SEEDS="1", **environment)[0] == 0
    (wide,) = checkout.cells.values()
    finished(checkout, wide.dir.path, 60.0, watts=300.0)
    plan = checkout.plan(**environment)
    found = {one.cell.name: one for one in estimate.estimates(plan, told(plan))}
    assert len(found) == 5
    assert found["02-wide seed-2"].basis == "1 finished cell of this step"
    assert found["00-control seed-1"].basis.endswith("of this study, by FLOPs")
    for one in found.values():
        assert one.seconds == pytest.approx(60.0)
        assert one.joules == pytest.approx(60.0 * 400.0)
    text = estimate.text(plan, list(found.values()))
    assert text.endswith("2m 30s with 2 at once, 120.0 kJ")

    other = checkout.plan(**environment, CONFIG_STUDY_OVERLAYS="tiny")
    found = estimate.estimates(other, told(other))
    assert {one.basis for one in found} == {
        "1 finished cell of other studies, by FLOPs"
    }


def test_an_estimate_leaves_out_what_was_trained(checkout):
    environment = {"JOBS": "2", "CONFIG_CPU_THREADS": "1", "MAX_ITERS": "300"}
    checkout.run(STEPS="2", SEEDS="1", JOBS="2", CONFIG_CPU_THREADS="1")
    finished(checkout, checkout.cells["02-wide/seed-1"].dir.path, 60.0)
    plan = checkout.plan(**environment)
    cell = plan.cells[0]
    cell.dir.checkpoint_dir.mkdir(parents=True)
    with zipfile.ZipFile(cell.dir.checkpoint_dir / "step-000000200.pt", "w") as file:
        file.writestr("data.pkl", b"")
    (cell.dir.checkpoint_dir / "step-000000290.pt").write_bytes(b"cut")
    plan = checkout.plan(**environment)
    seconds = [one.seconds for one in estimate.estimates(plan, told(plan))]
    assert seconds[0] == pytest.approx(seconds[1] / 3)
    assert all(one.joules is None for one in estimate.estimates(plan, told(plan)))
    assert "without a measured power" in estimate.text(
        plan, estimate.estimates(plan, told(plan))
    )


def test_estimate_is_a_command(checkout):
    status, output = checkout.run("estimate")
    assert status == 0 and estimate.UNKNOWN in output
    assert "6 cells without an estimate" in output and checkout.cells == {}


def test_watch_shows_what_the_records_say(checkout, capsys):
    checkout.stub(**{"02-wide": "fail"})
    assert checkout.run(SEEDS="1", STEPS="0,2")[0] == 1
    cells = checkout.cells
    held = cells["02-wide/seed-1"].dir
    study = held.path.parents[2]
    with Lease(held.lease).acquire():
        beat = {"attempt": 2, "pid": 1, "time": time.time() - 75, "step": 2}
        with open_append(held.progress()) as rows:
            rows.append({**beat, "phase": "evaluating"})
        with open_append(held.gpu) as rows:
            rows.append({"gpu/compute_util_avg": 93.4, "gpu/power_avg_w": 241.2})
        text = text_of(study)
    assert "1 done, 1 running" in text
    (line,) = [line for line in text.splitlines() if "02-wide seed-1" in line]
    assert re.search(
        r"running .* 2/3 .*@.* 1m 1[5-9]s ago, evaluating.* 93 % 241 W", line
    )
    (line,) = [line for line in text.splitlines() if "00-control seed-1" in line]
    assert re.search(r"done .* 3/3 .*3\.8000", line)
    assert watch(study, once=True) == 0
    assert "02-wide seed-1" in capsys.readouterr().out
    (held.path / "summary.json").write_text("{")
    assert "damaged" in text_of(study)
