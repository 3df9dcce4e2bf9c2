"""BASELINE=: control runs of another study, where they are the same cells."""

import csv
import io
import json
import shutil

import pytest

from matrix import run as runner, evidence_commands
from matrix.plan import rerun
from matrix.plan.cells import PlanError
from matrix.report import write
from matrix.results.selection import Selection
from matrix.results.study import load
from matrix.results.whole_run import identity_hash
from matrix.trackers.sync import sync
from matrix.trackers.target import TrackerError
from matrix.watch import Watch
from records import atomic, pointer
from records.layout import CellDir, RecordError
from tests.matrix.plan.test_stage import reported, run
from tests.matrix.trackers.test_mirror import TARGET

OTHER = {"CONFIG_STUDY": "other"}
BASELINE = {"BASELINE": "results/other"}
SIX = {"SEEDS": "1-6"}


@pytest.fixture
def other(checkout):
    """Another study over the same base has finished on seeds 1 to 6."""
    shutil.copytree(
        checkout.root / "defconfigs/toy.d", checkout.root / "defconfigs/other.d"
    )
    run(checkout, STEPS="0", **OTHER, **SIX)
    return checkout


def controls(plan) -> list:
    return [cell for cell in [*plan.reference, *plan.cells] if cell.control]


def verdicts(plan):
    return reported(plan)


def test_the_same_cells_are_reused_where_they_lie(other):
    plan = other.plan(**BASELINE, **SIX)
    found = controls(plan)
    assert [cell.state for cell in found] == ["done"] * 6
    for cell in found:
        there = (
            other.root / f"results/other/00-control/seed-{cell.seed}/{cell.hash[:8]}"
        )
        assert cell.dir.path == there and cell.reason.endswith(f"reused from {there}")
    assert {cell.step for cell in plan.pending} == {"02-wide", "08-hot"}
    assert not (other.root / "results/toy").exists(), "a plan writes nothing"


def test_a_report_names_their_directories(other):
    plan = run(other, **BASELINE, **SIX)
    runner._leave_pointers(plan)
    found = verdicts(plan)
    assert found.evidence.of("02-wide").label == "SUPPORTED better"
    assert found.warnings == ()
    paths = write.write(plan.study_dir, Selection((plan.cells[0].step,)))
    text = paths.markdown.read_text()
    assert "6 control runs reused from another study, read where they lie: " in text
    rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
    for cell in controls(plan):
        name = f"../other/00-control/seed-{cell.seed}/{cell.hash[:8]}"
        assert (plan.study_dir / name / "summary.json").exists()
        assert f"`{name}`" in text and name in paths.html.read_text()
        (row,) = [r for r in rows if r["run_dir"] == name]
        assert (row["step"], row["reused"], row["counted"]) == (
            "00-control",
            "yes",
            "yes",
        )
        own = plan.study_dir / f"00-control/seed-{cell.seed}/{cell.hash[:8]}"
        assert [path.name for path in own.iterdir()] == [pointer.NAME], "nothing copied"


def test_the_pointer_outlives_the_variable(other):
    runner._leave_pointers(other.plan(**BASELINE, **SIX))
    plan = other.plan(**SIX)
    assert all(cell.reused and cell.state == "done" for cell in controls(plan))
    moved = other.root / "results/elsewhere"
    (other.root / "results/other").rename(moved)
    lost = controls(other.plan(**SIX))
    assert {cell.state for cell in lost} == {"damaged"}
    assert all("no finished run is any more: bring it" in c.reason for c in lost)
    assert controls(other.plan(SEEDS="7"))[0].state == "new"
    study = load(other.root / "results/toy")
    assert {each.state for each in study.open} == {"damaged"}


def refused(checkout, **environment) -> str:
    with pytest.raises(PlanError) as error:
        checkout.plan(**{**BASELINE, **SIX, **environment})
    return str(error.value)


def test_another_configuration_is_refused(other):
    text = refused(other, CONFIG_ADAM_BETA2="0.9")
    assert "is another cell than 00-control seed 1: CONFIG_ADAM_BETA2 " in text
    assert '→ "0.9"' in text and "results/other/00-control/seed-1/" in text


def test_other_code_is_refused(other):
    (other.root / "gpt2" / "__init__.py").write_text("# changed\n")
    assert "code changed: gpt2/__init__.py" in refused(other)


def test_another_dataset_is_refused(other):
    other.pack(other.plan().cells[0].values, sha="b" * 64)
    assert "dataset changed: " in refused(other)


def test_other_threads_are_refused(other):
    assert "threads changed: 2 → 1" in refused(other, JOBS="2")


def test_a_record_that_contradicts_itself_is_refused(other):
    """Equal parts and another hash: one of the two was edited, or it has a part more."""
    cell, *_ = controls(other.plan(**BASELINE, **SIX))
    record = json.loads(cell.dir.run_json.read_text())
    record["cell"]["hash"] = "0" * 64
    atomic.write_json(cell.dir.run_json, record)
    plan = other.plan(**BASELINE, **SIX)
    assert [each.reused for each in controls(plan)] == [False, *[True] * 5]
    assert any("left out" in note and "cell.hash is 000" in note for note in plan.notes)
    summary = json.loads(cell.dir.summary.read_text())
    atomic.write_json(cell.dir.summary, {**summary, "hash": "0" * 64})
    moved = CellDir(cell.dir.path.rename(cell.dir.path.with_name("0" * 8)))
    plan = other.plan(**BASELINE, **SIX)
    assert any("is not the hash of cell.identity" in note for note in plan.notes)
    record["cell"]["identity"] |= {"more": 1}
    record["cell"]["hash"] = identity_hash(record["cell"]["identity"])
    atomic.write_json(moved.run_json, record)
    atomic.write_json(moved.summary, {**summary, "hash": record["cell"]["hash"]})
    moved.path.rename(moved.path.with_name(record["cell"]["hash"][:8]))
    assert "it records the hash" in refused(other)


def test_seeds_that_the_baseline_lacks_run_here(other):
    plan = other.plan(**BASELINE, SEEDS="5-7")
    assert [cell.reused for cell in controls(plan)] == [True, True, False]
    assert "00-control seed-7 is not in the baseline and runs here" in plan.notes


def test_a_run_that_did_not_finish_serves_nobody(other):
    for cell in controls(other.plan(**BASELINE, **SIX)):
        cell.dir.summary.unlink()
    assert "no finished control run with one of the seeds" in refused(other)


def test_only_the_control_is_reused(other):
    """The other study has finished the same arm as well; it is trained here."""
    run(other, STEPS="2", **OTHER, **SIX)
    plan = other.plan(**BASELINE, **SIX)
    assert {cell.state for cell in plan.cells if not cell.control} == {"new"}


def test_a_run_of_this_study_comes_first(other):
    run(other, STEPS="0", SEEDS="1")
    first, second, *_ = controls(other.plan(**BASELINE, **SIX))
    assert not first.reused and second.reused


@pytest.mark.parametrize(
    "path, why",
    [
        ("results/nowhere", "no such directory; name a study"),
        ("results/toy", "is this study itself"),
        ("gpt2", "no finished control run with one of the seeds"),
    ],
)
def test_what_is_no_baseline(other, path, why):
    run(other, STEPS="0", SEEDS="1")
    assert why in refused(other, BASELINE=path)


def test_a_control_that_knows_other_symbols_hides_no_difference(other):
    """Another study's control sets MLP_DIM itself; an arm here may not differ in it."""
    for cell in controls(other.plan(**BASELINE, **SIX)):
        record = json.loads(cell.dir.run_json.read_text())
        record["cell"]["changes"] = ["LEARNING_RATE", "MLP_DIM"]
        atomic.write_json(cell.dir.run_json, record)
    plan = run(other, **BASELINE, **SIX)
    runner._leave_pointers(plan)
    for cell in plan.cells:
        if cell.step == "02-wide":
            record = json.loads(cell.dir.run_json.read_text())
            record["cell"]["changes"] = []
            atomic.write_json(cell.dir.run_json, record)
    reasons = verdicts(plan).evidence.of("02-wide").reasons
    hidden = "02-wide differs from its control in CONFIG_MLP_DIM"
    assert any(line.startswith(hidden) for line in reasons)


def test_a_registration_says_that_the_control_was_known(other):
    assert evidence_commands.prereg(other.plan(**BASELINE, **SIX), None) == 0
    plan = run(other, **BASELINE, **SIX)
    runner._leave_pointers(plan)
    (line,) = verdicts(plan).registration.deviations
    assert line.startswith("started before the registration: ../other/00-control/")


def test_a_screening_of_another_study_stays_one(checkout):
    shutil.copytree(
        checkout.root / "defconfigs/toy.d", checkout.root / "defconfigs/other.d"
    )
    run(checkout, STEPS="0", DESIGN="screen-confirm", STAGE="screen", **OTHER, **SIX)
    plan = run(checkout, **BASELINE, **SIX)
    runner._leave_pointers(plan)
    reason, *_ = verdicts(plan).evidence.of("02-wide").reasons
    assert reason.startswith("screening seeds re-used: 1-6;")


def test_a_rerun_leaves_the_other_study_alone(other):
    """What is moved aside and trained again is this study's own."""
    run(other, **BASELINE, **SIX)
    said = []
    plan = rerun.replaced_by_new_runs(other.plan(**BASELINE, **SIX))
    rerun.make_room(plan, True, said.append)
    assert all(cell.state == "done" for cell in controls(plan))
    assert len(said) == 12 and not any("00-control" in line for line in said)
    alone = other.plan(STEPS="0", **BASELINE, **SIX)
    with pytest.raises(PlanError, match="none of these cells is done"):
        rerun.replaced_by_new_runs(alone)


def test_what_else_reads_a_study_follows_the_pointer(other):
    """watch shows the run's state, sync leaves it to the other study's mirror."""
    plan = run(other, STEPS="2", **BASELINE, **SIX)
    runner._leave_pointers(other.plan(**BASELINE, **SIX))
    line, *_ = (Watch(plan.study_dir)._line(cell.own.path) for cell in controls(plan))
    assert line[:2] == (f"00-control seed-1 {controls(plan)[0].hash[:8]}", "done")
    said = []
    sync(plan.study_dir, [TARGET], {}, said.append, Refusing)
    assert len(said) == 6 and all("02-wide" in line for line in said)


class Refusing:
    """A mirror that cannot send."""

    def __init__(self, path, target, *_, **__):
        self.path, self.target, self.tags = path, target, ()

    def end(self):
        raise TrackerError("no network")


def test_a_damaged_pointer_is_named(tmp_path):
    atomic.write_json(tmp_path / pointer.NAME, {"schema": 1})
    with pytest.raises(RecordError, match="run is absent: remove"):
        pointer.follow(CellDir(tmp_path))
