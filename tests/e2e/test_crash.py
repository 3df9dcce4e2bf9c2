"""The real `make` after a kill or a full disk at every change around a summary."""

import json

import pytest

from gpt2.settings.run import run_settings
from matrix.launch import prepare
from matrix.plan.cells import make_plan
from records import provenance
from records.cell import read_status
from tests.chaos.crashes import UNMARKED, content, crashes, curve, is_marked, job

SEEDS = 30
"""More than there are changes around a summary, twice."""


@pytest.mark.slow
def test_make_settles_what_is_left(checkout):
    """A seed for each change and each fault: every cell is done once, and those whose
    summary stood are what they would have been.
    """
    few = {"GPT2_MAX_ITERS": "6", "GPT2_EVAL_INTERVAL": "3", "CHECKPOINT_INTERVAL": "2"}
    checkout.toy({"00-control": "# Help: the base\n"}, SEEDS=f'"1-{SEEDS}"', **few)
    assert checkout.make("data").status == 0
    calm, stormy = _prepared(checkout, "calm"), _prepared(checkout, "stormy")
    data, names = calm[0].dataset, [cell.name for cell in calm]
    done = crashes(data, [job(cell.dir.path) for cell in calm])
    assert {each["status"] for each in done} == {0}
    changes = done[0]["changes"]
    where = range(changes.index("open .summary.json.HEX.tmp"), len(changes))
    faults = [(fault, n) for fault in ("kill", "full") for n in where]
    assert len(faults) <= SEEDS
    faults += [(None, -1)] * (SEEDS - len(faults))
    crashes(data, [job(c.dir.path, *f) for c, f in zip(stormy, faults, strict=True)])

    planned = checkout.make("plan", OUTPUT="stormy").output
    wrong = {}
    for cell, (fault, point) in zip(stormy, faults):
        status = read_status(cell.dir, cell.hash)
        line = next(x for x in planned.splitlines() if x.startswith(f"{cell.name} "))
        marked = is_marked(changes, fault, point)
        if (
            not marked
            and (status.state, status.reason.split(":")[0]) != UNMARKED[fault]
        ):
            wrong[cell.name] = status.reason
        if marked and status.left and f"make will {', '.join(status.left)}" not in line:
            wrong[cell.name] = line
    assert not wrong
    made = checkout.make(OUTPUT="stormy")
    assert made.status == 0, made.output
    assert "settled: " in made.output and "not settled" not in made.output
    for before, cell, (fault, point) in zip(calm, stormy, faults):
        what = changes[point] if fault else "nothing"
        status = read_status(cell.dir, cell.hash)
        assert (status.state, status.left, status.failure) == ("done", (), None), what
        if is_marked(changes, fault, point):
            assert _own(cell) == _own(before), (fault, what)
        else:
            assert curve(cell.dir.path) == curve(before.dir.path), (fault, what)
    again = checkout.make(OUTPUT="stormy")
    assert again.status == 0 and "settled" not in again.output
    assert "make will" not in again.output and len(names) == SEEDS


def _own(cell):
    """What training left; run.json names the directory and the override."""
    found = content(cell.dir.path)
    del found["run.json"]
    written = json.loads(cell.dir.run_json.read_text())["cell"]["hash"]
    assert written == cell.hash
    return found


def _prepared(checkout, output):
    """The cells of the plan, as the runner leaves them to the training."""
    plan = make_plan(checkout.root, {"OUTPUT": output}, lambda: "cpu", run_settings)
    origin = provenance.gather(checkout.root)
    for cell in plan.cells:
        prepare.write(plan, cell, prepare.script(plan, cell), origin)
    return plan.cells
