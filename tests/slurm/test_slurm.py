"""Cells as jobs of a real Slurm: done, failed, cancelled, left, preempted, spread."""

import itertools
import re
import signal
import time

import pytest

from records.layout import read_record

pytestmark = pytest.mark.slow


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def job_of(study, name):
    return read_record(study.cells[name].dir.slurm)["job"]


def steps(study, name):
    record = study.cells.get(name)
    return record.step if record else 0


def test_a_study_runs_as_jobs_on_gpus_of_their_own(study, cluster):
    before = set(cluster.jobs())
    status, output = study.run(V="1")
    assert status == 0, output
    cells = study.cells
    assert len(cells) == 6 and {r.state for r in cells.values()} == {"done"}
    assert set(cluster.jobs()) - before == {job_of(study, name) for name in cells}
    used = []
    for record in cells.values():
        start, end = record.attempts
        placed = start["placement"]
        assert placed["job"] == read_record(record.dir.slurm)["job"]
        assert placed["nodes"] in ("n1", "n2") and placed["gpus"] in ("0", "1")
        used.append(((placed["nodes"], placed["gpus"]), start["time"], end["time"]))
        job = cluster.jobs()[placed["job"]]
        assert job["GresEnforceBind"] == "Yes" and job["Requeue"] == "1"
    for one, other in itertools.combinations(used, 2):
        assert one[0] != other[0] or one[2] <= other[1] or other[2] <= one[1]
    assert "sbatch --parsable" in output and "done    02-wide seed-2" in output
    status, output = study.run()
    assert status == 0 and "6 done" in output and "start " not in output


def test_a_failed_and_a_cancelled_cell_are_told_and_only_they_run_again(study, cluster):
    study.stub(**{"02-wide": "fail", "08-hot": "hang"})
    runner = study.start(SEEDS="1")
    wait_for(lambda: steps(study, "08-hot/seed-1") >= 1)
    cancelled = job_of(study, "08-hot/seed-1")
    where = re.search(r"CPU_IDs=(\d) .*IDX:(\d)\)", cluster.detail(cancelled))
    gpu = study.cells["08-hot/seed-1"].attempts[0]["placement"]["gpus"]
    assert where[1] == where[2] == gpu, "a core of the other GPU"
    cluster.run("scancel", cancelled)
    output, _ = runner.communicate(timeout=120)
    assert runner.returncode == 1, output
    assert f"cancelled 08-hot seed-1  job {cancelled} was cancelled" in output
    failed = job_of(study, "02-wide/seed-1")
    assert f"failed  02-wide seed-1  job {failed}: FAILED: RuntimeError: told" in output
    assert "    | Traceback: told to" in output
    states = {name: record.state for name, record in study.cells.items()}
    assert states == {
        "00-control/seed-1": "done",
        "02-wide/seed-1": "failed",
        "08-hot/seed-1": "interrupted",
    }
    before = set(cluster.jobs())
    study.stub()
    status, output = study.run(SEEDS="1")
    assert status == 0, output
    again = {job_of(study, f"{name}/seed-1") for name in ("02-wide", "08-hot")}
    assert set(cluster.jobs()) - before == again
    assert {record.state for record in study.cells.values()} == {"done"}


def test_ctrl_c_leaves_the_jobs_and_the_next_make_follows_them(study, cluster):
    study.stub(**{"00-control": "hang"})
    runner = study.start(SEEDS="1", STEPS="0")
    wait_for(lambda: steps(study, "00-control/seed-1") >= 1)
    job = job_of(study, "00-control/seed-1")
    runner.send_signal(signal.SIGINT)
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert f"`make` follows them again, `scancel {job}` ends them" in output
    assert cluster.jobs()[job]["JobState"] == "RUNNING"
    before = set(cluster.jobs())
    second = study.start(SEEDS="1", STEPS="0")
    assert any("start   00-control seed-1" in line for line in second.stdout)
    cluster.run("scancel", job)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1 and f"job {job} was cancelled" in output
    assert set(cluster.jobs()) == before, "submitted again"


@pytest.mark.parametrize(
    "how",
    [
        ["scontrol", "requeue"],  # as a preemption does
        ["scancel", "--signal=TERM", "--batch"],  # as --signal=B:TERM does
    ],
    ids=["preempted", "near the time limit"],
)
def test_a_job_that_is_queued_again_goes_on_where_it_was(study, cluster, how):
    study.stub(steps=100_000, sleep=0.05)
    runner = study.start(SEEDS="1", STEPS="0")
    name = "00-control/seed-1"
    wait_for(lambda: steps(study, name) >= 2)
    job = job_of(study, name)
    cluster.run(how[0], *how[1:], job)
    wait_for(lambda: len(study.cells[name].attempts) >= 2)
    stopped = study.cells[name].attempts[1]
    assert stopped["status"] == "stopped"
    study.stub(steps=stopped["step"] + 5, sleep=0.01)
    output, _ = runner.communicate(timeout=180)
    assert runner.returncode == 0, output
    record = study.cells[name]
    assert [row["event"] for row in record.attempts] == ["start", "end"] * 2
    assert record.attempts[2]["placement"] == {
        **record.attempts[0]["placement"],
        "nodes": record.attempts[2]["placement"]["nodes"],
        "gpus": record.attempts[2]["placement"]["gpus"],
        "restarts": 1,
    }
    log = (record.dir.path / "train.log").read_text()
    assert f"attempt 2 from step {stopped['step']}" in log
    assert ("the time limit is near" in log) == (how[0] == "scancel")


def test_what_sbatch_refuses_is_told(study):
    status, output = study.run(
        SEEDS="1", STEPS="0", CONFIG_SLURM_PARTITION="no-such-partition"
    )
    assert status == 1
    assert "cannot be started: sbatch: error" in output and "partition" in output


def test_two_nodes_meet_by_c10d(study, cluster):
    study.configure(
        "CONFIG_SLURM_NODES=2", "CONFIG_GPUS_PER_RUN=2", "CONFIG_EFFECTIVE_BATCH=64"
    )
    status, output = study.run(SEEDS="1", STEPS="0")
    assert status == 0, output
    (record,) = study.cells.values()
    assert record.attempts[0]["placement"]["nodes"] == "n[1-2]"
    assert (study.root / "rank-1-of-2").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_job_that_hangs_is_ended_and_a_new_one_goes_on(study, cluster, ranks):
    """The script and torchrun survive the signal that has the stacks written."""
    if ranks == 2:
        study.configure("CONFIG_GPUS_PER_RUN=2", "CONFIG_EFFECTIVE_BATCH=64")
    study.stub(**{"00-control": "stall-once"})
    status, output = study.run(SEEDS="1", STEPS="0", CONFIG_WATCHDOG_SECONDS="20")
    assert status == 0, output
    (record,) = study.cells.values()
    first, second = (row for row in record.attempts if row["event"] == "start")
    jobs = [row["placement"]["job"] for row in (first, second)]
    assert jobs[0] != jobs[1] == job_of(study, "00-control/seed-1")
    assert cluster.jobs()[jobs[0]]["JobState"] == "CANCELLED"
    said = f"job {jobs[0]}: no heartbeat for "
    assert said in output and "ended, starting again" in output
    log = record.dir.train_log.read_text()
    assert said in log and "attempt 2 from step 1" in log
    stacks = record.dir.stacks.read_text()
    assert said in stacks and "train_ra_mla.py" in stacks.split(said)[1]
    steps_ = [row["step"] for row in record.train]
    assert steps_ == [0, 1, 2] and record.train[1]["attempt"] == 2


def test_a_job_that_always_hangs_has_failed(study, cluster):
    study.stub(**{"00-control": "stall"})
    before = set(cluster.jobs())
    status, output = study.run(
        SEEDS="1",
        STEPS="0",
        CONFIG_WATCHDOG_SECONDS="10",
        CONFIG_WATCHDOG_RETRIES="1",
    )
    assert status == 1 and output.count("starting again") == 1, output
    (record,) = study.cells.values()
    job = job_of(study, "00-control/seed-1")
    assert record.state == "failed" and f"job {job}: no heartbeat" in record.reason
    assert len(set(cluster.jobs()) - before) == 2
