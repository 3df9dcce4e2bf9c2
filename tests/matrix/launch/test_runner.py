"""The runner: every cell once, whatever fails, stops or dies."""

import contextlib
import errno
import json
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from matrix import run
from matrix.launch import local, prepare
from matrix.launch.child import log_tail
from matrix.launch.display import Plain
from records import lease, private
from records.layout import CellDir

REPORT = run._report


def wait_for(condition, seconds: float = 20.0) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children(checkout) -> list[int]:
    """Pids of the stubs that hold a lease."""
    records = checkout.cells.values()
    return [r.holder.pid for r in records if r.holder and r.holder.pid]


def steps(checkout) -> int:
    """Steps that all cells have on record."""
    return sum(record.step for record in checkout.cells.values())


def require_complete(checkout, steps: int, count: int = 6) -> None:
    """Each cell is done, and its attempts never overlapped."""
    cells = checkout.cells
    assert len(cells) == count
    for name, record in cells.items():
        assert record.state == "done", (name, record.reason)
        assert [row["step"] for row in record.train] == list(range(steps))
        ended = [row for row in record.attempts if row.get("status") == "done"]
        assert len(ended) <= 1, f"{name} was trained to its end twice"
        starts = [row for row in record.attempts if row["event"] == "start"]
        assert [row["attempt"] for row in starts] == list(range(1, len(starts) + 1))
        rows = sorted(record.train, key=lambda row: row["time"])
        assert [r["attempt"] for r in rows] == sorted(r["attempt"] for r in rows)


def test_a_study_from_nothing_to_done(checkout):
    status, output = checkout.run(V="1")
    assert status == 0, output
    require_complete(checkout, 3)
    for record in checkout.cells.values():
        assert [row["event"] for row in record.attempts] == ["start", "end"]
        text = (record.dir.path / "train.log").read_text()
        assert text == "attempt 1 from step 0\n"
        assert Path(record.run["command"][1]).is_relative_to(
            private.cache_home() / "code"
        )
    there = {path.name for path in (checkout.root / "results").iterdir()}
    assert there == {".cache", "toy"}
    assert re.search(
        r"done    02-wide seed-2  val loss 3.0000 nats/token  .*\[5/6\]", output
    )
    assert f"results: {checkout.root}/results/toy" in output
    assert "--run-dir" in output, "V=1 shows commands"
    status, output = checkout.run()
    assert status == 0 and "6 done" in output and "start " not in output


def test_threads_and_passive_waiting_reach_the_child(checkout, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    stub = checkout.root / "gpt2" / "train_ra_mla.py"
    keys = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"]
    probe = f"\n    print([os.environ[k] for k in {keys}], os.getsid(0) == os.getpid())"
    marker = "run, rules = read_record(cell.run_json), behaviour()"
    stub.write_text(stub.read_text().replace(marker, marker + probe))
    assert checkout.run(STEPS="0", SEEDS="1", JOBS="2")[0] == 0
    log = log_tail(checkout.cells["00-control/seed-1"].dir, 2)
    assert log[0] == "['1', '1', 'PASSIVE', '0'] True"


@pytest.mark.parametrize(
    "word, meant",
    [("STEP", "STEPS"), ("LR", "CONFIG_LEARNING_RATE"), ("MLP_DIM", "CONFIG_MLP_DIM")],
)
def test_a_word_that_nothing_reads_trains_nothing(checkout, word, meant):
    status, said = checkout.run(**{word: "2"})
    assert status == 2
    assert f"{word}=2: " in said and f"write {meant}=" in said
    assert not (checkout.root / "results").exists()
    others = {"WINDOW": "2", "LOG_INTERVAL": "2", "SLURM_PARTITION": "x", word: ""}
    assert checkout.run("plan", **others)[0] == 0


def test_cells_share_what_was_compiled(checkout, monkeypatch):
    def seen():
        starts = [record.attempts[0] for record in checkout.cells.values()]
        return {row["environment"]["TORCHINDUCTOR_CACHE_DIR"] for row in starts}

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert checkout.run(SEEDS="1-2")[0] == 0
    assert seen() == {str(private.cache_home() / "inductor")}
    mine = str(checkout.root / "mine")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", mine)
    assert checkout.run("rerun", SEEDS="1-2", COMMAND_LINE_VARIABLES="SEEDS")[0] == 0
    assert seen() == {mine}


def test_what_others_may_write_is_refused_before_a_cell_starts(
    checkout, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in private.CACHES:
        monkeypatch.delenv(name, raising=False)
    for name in ("inductor", "triton", "code"):
        folder = private.cache(name)
        folder.chmod(0o777)
        status, output = checkout.run()
        assert status == 2
        assert output.endswith(
            f"error: {folder} has mode 777: others may write there: chmod go-w it, "
            f"remove it, or set XDG_CACHE_HOME to another folder ({folder})\n"
        )
        assert checkout.cells == {}
        folder.chmod(0o700)


def test_a_failure_does_not_stop_the_others_and_is_retried(checkout):
    checkout.stub(**{"02-wide": "fail", "08-hot": "crash"})
    status, output = checkout.run(SEEDS="1")
    assert status == 1
    cells = checkout.cells
    assert cells["00-control/seed-1"].state == "done"
    failed, crashed = cells["02-wide/seed-1"], cells["08-hot/seed-1"]
    assert failed.reason == "failed before: RuntimeError: told to"
    assert crashed.reason == "failed before: killed by SIGKILL"
    assert crashed.failure["exit_code"] == -signal.SIGKILL
    assert "    | Traceback: told to" in output
    assert "killed by SIGKILL" in output
    checkout.stub()
    status, output = checkout.run(SEEDS="1")
    assert status == 0 and "failed before: killed by SIGKILL" in output
    require_complete(checkout, 3, count=3)
    assert checkout.cells["08-hot/seed-1"].failure is None
    assert len(checkout.cells["00-control/seed-1"].attempts) == 2, "ran again"
    log = log_tail(failed.dir, 9)
    assert (log[0], log[-1]) == ("attempt 1 from step 0", "attempt 2 from step 1")


@pytest.mark.parametrize(
    "kind, why",
    [
        ("import-error", "exit status 1"),
        ("no-summary", "exit status 0 without a summary"),
    ],
)
def test_an_end_that_the_child_did_not_explain(checkout, kind, why):
    checkout.stub(**{"00-control": kind})
    assert checkout.run(STEPS="0", SEEDS="1")[0] == 1
    record = checkout.cells["00-control/seed-1"]
    assert record.state == "failed" and record.failure["error"] == why
    first = record.failure["time"]
    assert checkout.run(STEPS="0", SEEDS="1")[0] == 1
    assert checkout.cells["00-control/seed-1"].failure["time"] > first


def test_fail_fast(checkout):
    checkout.stub(**{"00-control": "hang", "02-wide": "fail"})
    status, output = checkout.run(FAIL_FAST="1", JOBS="2", SEEDS="1")
    assert status == 1 and "FAIL_FAST" in output
    cells = checkout.cells
    assert set(cells) == {"00-control/seed-1", "02-wide/seed-1"}
    assert cells["00-control/seed-1"].state == "interrupted"


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_and_the_next_run_continues(checkout, number, status):
    checkout.stub(steps=400, sleep=0.02)
    runner = checkout.start(JOBS="2")
    wait_for(lambda: sum(r.step >= 2 for r in checkout.cells.values()) == 2)
    runner.send_signal(number)
    output, _ = runner.communicate(timeout=20)
    assert runner.returncode == status, output
    assert "waiting for the checkpoints" in output
    what = {130: "interrupted", 143: "stopped"}[status]
    assert output.endswith(f"\n{what}; make JOBS=2 goes on from here\n")
    stopped = checkout.cells
    assert len(stopped) == 2
    for record in stopped.values():
        assert record.state == "interrupted" and record.attempts[-1]["step"] >= 2
        assert record.attempts[-1]["status"] == "stopped"
    longest = max(record.step for record in stopped.values())
    checkout.stub(steps=longest + 2, sleep=0)
    status, output = checkout.run(JOBS="2")
    assert status == 0 and "interrupted, begins anew" in output
    require_complete(checkout, longest + 2)
    for name in stopped:
        assert len(checkout.cells[name].attempts) == 4


def test_a_second_signal_kills(checkout):
    checkout.stub(**{"00-control": "stubborn"})
    runner = checkout.start(STEPS="0", SEEDS="1")
    wait_for(lambda: any(r.step >= 1 for r in checkout.cells.values()))
    (pid,) = children(checkout)
    runner.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert runner.poll() is None, "did not wait for the checkpoint"
    runner.send_signal(signal.SIGINT)
    output, _ = runner.communicate(timeout=10)
    assert runner.returncode == 130 and "killing" in output
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    record = checkout.cells["00-control/seed-1"]
    assert record.state == "interrupted" and record.failure is None


def test_a_grace_that_runs_out_kills(checkout, monkeypatch):
    monkeypatch.setattr(local, "GRACE", 0.3)
    checkout.stub(**{"00-control": "stubborn"})

    def interrupt() -> None:
        wait_for(lambda: any(r.step >= 1 for r in checkout.cells.values()))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    status, output = checkout.run(STEPS="0", SEEDS="1")
    thread.join()
    assert time.monotonic() - began < 25, "something else ended it"
    assert status == 143 and "killing the cells" in output
    assert checkout.cells["00-control/seed-1"].state == "interrupted"


def test_an_error_of_the_runner_does_not_leave_children(checkout, monkeypatch):
    checkout.stub(**{"00-control": "hang"})

    def break_down(self) -> None:
        if any(r.step >= 1 for r in checkout.cells.values()):
            raise KeyError("a bug")

    monkeypatch.setattr(Plain, "refresh", break_down)
    with pytest.raises(KeyError, match="a bug"):
        checkout.run(STEPS="0", SEEDS="1")
    wait_for(lambda: not children(checkout))


def test_a_full_disk_ends_one_cell_and_not_the_others(checkout, monkeypatch):
    write = prepare.write

    def full(plan, cell, *rest) -> None:
        if cell.step == "02-wide":
            raise OSError(errno.ENOSPC, "No space left on device", "run.json")
        write(plan, cell, *rest)

    monkeypatch.setattr(prepare, "write", full)
    status, output = checkout.run(SEEDS="1")
    assert status == 1
    assert re.search("02-wide seed-1 .*cannot be started: .*No space", output), output
    done = {name for name, record in checkout.cells.items() if record.state == "done"}
    assert done == {"00-control/seed-1", "08-hot/seed-1"}


def test_a_child_that_finds_the_lease_held_is_started_again(checkout):
    checkout.stub(**{"00-control": "held-once"})
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 0 and output.count("start   00-control") == 2
    assert "running elsewhere: 00-control seed-1 in another process" in output
    require_complete(checkout, 3, count=1)


def test_an_orphan_is_waited_for(checkout):
    checkout.stub(steps=30, sleep=0.05)
    runner = checkout.start(STEPS="0", SEEDS="1")
    wait_for(lambda: any(r.step >= 1 for r in checkout.cells.values()))
    runner.kill()
    runner.wait()
    (pid,) = children(checkout)
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 0 and f"running elsewhere: 00-control seed-1 in {pid}@" in output
    assert "start " not in output, "started beside the orphan"
    require_complete(checkout, 30, count=1)
    assert len(checkout.cells["00-control/seed-1"].attempts) == 2


@pytest.mark.parametrize("age", [lease.STALE + 1, lease.STALE - 4])
def test_a_lease_of_another_host_is_taken_over_once_it_is_stale(checkout, age):
    """Its process is out of sight: a heartbeat of the lease says that it lives."""
    (cell,) = checkout.plan(STEPS="0", SEEDS="1").cells
    cell.dir.path.mkdir(parents=True)
    since = time.time() - age
    holder = {"pid": 7, "host": "elsewhere", "time": since}
    cell.dir.lease.write_text(json.dumps(holder))
    cell.dir.lease.with_name("heartbeat").write_text(json.dumps(holder))
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 0, output
    waited = "running elsewhere: 00-control seed-1 in 7@elsewhere" in output
    assert waited == (age < lease.STALE)
    (record,) = checkout.cells.values()
    assert record.attempts[0]["time"] - since >= lease.STALE
    require_complete(checkout, 3, count=1)


def test_kills_at_random_moments_lose_and_repeat_nothing(checkout):
    """A moment is a number of steps, so that a busy machine only takes longer."""
    rng = random.Random(7)
    checkout.stub(steps=100, sleep=0.05)
    killed = 0
    for turn in range(4):
        before = steps(checkout)
        moment = before + rng.randint(0, 20)
        runner = checkout.start(JOBS="2")
        wait_for(lambda: steps(checkout) >= moment, 120)
        assert runner.poll() is None, runner.communicate()[0]
        wait_for(lambda: children(checkout), 120)
        victims = children(checkout)
        if turn % 2:
            runner.kill()
        for pid in rng.sample(victims, k=rng.randint(0, len(victims))):
            with contextlib.suppress(ProcessLookupError):  # its cell was just done
                os.kill(pid, signal.SIGKILL)
                killed += 1
        runner.kill()
        runner.communicate()
    assert killed > 0, "nobody was hit"
    states = {record.state for record in checkout.cells.values()}
    assert states - {"done"}, "nothing was under way"
    checkout.stub(steps=100, sleep=0.001)
    status, output = checkout.run(JOBS="2")
    assert status == 0, output
    require_complete(checkout, 100)


def test_two_runners_never_run_a_cell_twice(checkout):
    checkout.stub(steps=10, sleep=0.02)
    runners = [checkout.start(JOBS="2") for _ in range(2)]
    outputs = [runner.communicate(timeout=60)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], outputs
    require_complete(checkout, 10)
    for record in checkout.cells.values():
        assert [row["event"] for row in record.attempts] == ["start", "end"]
    assert all("start   00-control" in text for text in outputs), "no race"


def test_a_failure_of_the_other_runner_is_not_retried(checkout):
    checkout.stub(**{"00-control": "hang", "steps": 2})
    first = checkout.start(STEPS="0", SEEDS="1")
    wait_for(lambda: any(r.step >= 1 for r in checkout.cells.values()))
    (pid,) = children(checkout)
    second = checkout.start(STEPS="0", SEEDS="1")
    assert any("running elsewhere" in line for line in second.stdout)
    os.kill(pid, signal.SIGKILL)
    outputs = [runner.communicate(timeout=20)[0] for runner in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1], outputs
    assert "elsewhere: killed by SIGKILL" in outputs[1]
    starts = checkout.cells["00-control/seed-1"].attempts
    assert len(starts) == 1, "started again"


def test_dry_run_trains_nothing(checkout, capfd):
    for arguments, environment in ((["--dry-run"], {}), ([], {"DRY_RUN": "1"})):
        status, output = checkout.run(*arguments, **environment)
        assert status == 0 and "6 new" in output
        assert capfd.readouterr().out == "dry run None\n"
    status, output = checkout.run(DRY_RUN="1", STEPS="0,8")
    assert status == 0 and "4 new" in output
    assert capfd.readouterr().out == "dry run 0,8\n"
    checkout.stub(dry_run=3)
    assert checkout.run("--dry-run")[0] == 1
    assert checkout.run(DRY_RUN="yes")[0] == 2
    assert checkout.cells == {}


def test_plan_prints_and_trains_nothing(checkout):
    status, output = checkout.run("plan")
    assert status == 0
    assert re.search(r"^02-wide/seed-1/[0-9a-f]{8} +new    never ran$", output, re.M)
    assert "toy: 6 cells (6 new)\nin " in output and "disk: up to" in output
    (place,) = re.findall("^in (.*)$", output, re.M)
    assert place == str(checkout.root / "results" / "toy")
    assert checkout.cells == {}


def test_what_cannot_be_planned_is_one_line(checkout):
    status, output = checkout.run("plan", CONFIG_MLP_DIN="3")
    assert status == 2
    assert output.startswith("error: ") and "CONFIG_MLP_DIN" in output
    assert len(output.splitlines()) == 1


def test_the_code_of_a_running_study_is_its_snapshot(checkout):
    checkout.stub(steps=2, sleep=0.1)
    runner = checkout.start(SEEDS="1")
    wait_for(lambda: any(r.step >= 1 for r in checkout.cells.values()))
    (checkout.root / "gpt2" / "train_ra_mla.py").write_text("raise SystemExit(1)\n")
    output, _ = runner.communicate(timeout=30)
    assert runner.returncode == 0, output
    assert {record.state for record in checkout.cells.values()} == {"done"}


def test_a_report_follows_the_run(checkout, monkeypatch):
    plans = []
    monkeypatch.setattr(run, "_report", plans.append)
    assert checkout.run(STEPS="2,8", SEEDS="1")[0] == 0
    (plan,) = plans
    assert [cell.name for cell in plan.reference] == ["00-control seed-1"]


def test_the_report_is_that_of_the_plan(checkout, monkeypatch):
    plans = []
    monkeypatch.setattr(run, "_report", lambda plan: plans.append(plan) or True)
    assert checkout.run("report", MAX_ITERS="7", STEPS="2")[0] == 0
    (cell, _), (reference, _) = plans[0].cells, plans[0].reference
    assert cell.hash == checkout.plan(MAX_ITERS="7").cells[1].hash
    assert reference.step == "00-control"


def test_no_report_of_runs_with_other_settings(checkout, monkeypatch):
    assert checkout.run(SEEDS="1")[0] == 0
    monkeypatch.setattr(run, "_report", REPORT)
    status, output = checkout.run("report", SEEDS="1", MAX_ITERS="7")
    assert status == 1 and "no report: " in output
    assert "3 runs of other settings" in output and "make_report.py " in output


def test_nothing_to_report(checkout, monkeypatch):
    monkeypatch.setattr(run, "_report", REPORT)
    checkout.stub(**{"00-control": "fail"})
    status, output = checkout.run(STEPS="0", SEEDS="1")
    assert status == 1 and "no report: " in output


def test_an_interrupt_outside_the_run(checkout, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "make_plan", interrupt)
    assert checkout.run("plan") == (130, "interrupted\n")
    assert checkout.run(DRY_RUN="1") == (130, "interrupted\n")
    for command, goes_on in {
        "run": "make 'ARMS=a b' SEEDS=1-2",
        "rerun": "make 'ARMS=a b' SEEDS=1-2",
        "continue": "make continue 'ARMS=a b' SEEDS=1-2",
    }.items():
        said = f"interrupted; {goes_on} goes on from here\n"
        assert checkout.run(command, SEEDS="1-2", ARMS="a b") == (130, said)


def test_log_tail_of_a_long_log(tmp_path):
    cell = CellDir(tmp_path)
    assert log_tail(cell, 3) == []
    cell.train_log.write_text("x" * 100_000 + "\nlast\xff\n", encoding="latin-1")
    assert log_tail(cell, 1) == ["last\ufffd"]
