"""Jobs without a cluster: the script, and what is made of scontrol's answers.

tests/slurm/ runs the same on a real Slurm.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from kconf.bind import SettingsError
from kconf.syntax import ConfigError
from matrix.fleet.place import PlaceError, Slot
from matrix.launch import jobscript, slurm
from matrix.launch.display import Plain
from matrix.launch.local import Runner
from matrix.launch.slurm import JobState, Slurm, SubmitError, all_at_once
from matrix.settings import SlurmSettings
from records import atomic
from records.cell import read_status
from records.layout import CellDir

PLAIN = SlurmSettings("", "", "", "gpu", 1, 0, "")

SBATCH = """#!/bin/sh
echo "$@" >> submitted
[ ! -e refuse ] || { echo 'sbatch: error: invalid partition' >&2; exit 1; }
echo '41;cluster'
"""
SCONTROL = """#!/bin/sh
[ ! -e silent ] || { echo 'Unable to contact slurm controller' >&2; exit 1; }
[ -e job ] || { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }
cat job
"""


@pytest.fixture
def site(checkout, monkeypatch):
    """A plan of one cell, and sbatch and scontrol that answer from files."""
    bin_ = checkout.root / "bin"
    bin_.mkdir()
    scancel = '#!/bin/sh\necho "$@" >> cancelled\n'
    tools = {"sbatch": SBATCH, "scontrol": SCONTROL, "scancel": scancel}
    for name, text in tools.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.chdir(checkout.root)
    monkeypatch.setattr(slurm, "INTERVAL", 0.0)
    monkeypatch.setattr(slurm, "PER_JOB", 0.0)
    monkeypatch.setattr(slurm, "SETTLE", 0.0)
    checkout.configure("CONFIG_LAUNCHER_SLURM=y")
    plan = checkout.plan(STEPS="0", SEEDS="1")
    said = []
    launcher = Slurm(plan, sys.executable, {"time": 0.0}, said.append)
    (cell,) = plan.cells

    def say(state, code="0:0", name=jobscript.name(cell)):
        (checkout.root / "job").write_text(
            f"JobId=41 JobName={name} JobState={state} Reason=x ExitCode={code}\n"
        )

    return SimpleNamespace(
        root=checkout.root, launcher=launcher, cell=cell, say=say, said=said, plan=plan
    )


def started(site):
    job, argv = site.launcher.start(site.cell, Slot())
    site.say("RUNNING")
    assert job.outcome(False) is None
    return job


def attempt(site, **end):
    """What a training process leaves."""
    common = {"attempt": 1, "time": 1.0}
    last = {"event": "end", "step": 0, "error": None, **common, **end}
    rows = [{"event": "start", **common}, last]
    for row in rows:
        with open(site.cell.dir.attempts, "a") as file:
            file.write(f"{row}".replace("'", '"').replace("None", "null") + "\n")


def test_a_cell_is_submitted_once(site):
    job = started(site)
    assert job.id == "41" and (site.root / "submitted").read_text().count("\n") == 1
    again, _ = site.launcher.start(site.cell, Slot())
    other = Slurm(site.plan, sys.executable, {"time": 0.0}, site.said.append)
    assert again.id == "41" and other.adopt(site.cell).id == "41"
    assert (site.root / "submitted").read_text().count("\n") == 1


@pytest.mark.parametrize(
    "state, name", [("COMPLETED", None), ("CANCELLED", None), ("RUNNING", "another")]
)
def test_a_job_that_is_over_or_not_ours_is_not_followed(site, state, name):
    started(site)
    site.say(state, **({"name": name} if name else {}))
    assert site.launcher.adopt(site.cell) is None


@pytest.mark.parametrize("state", ["PENDING", "COMPLETING", "REQUEUED", "SUSPENDED"])
def test_a_job_on_its_way_is_waited_for(site, state):
    job = started(site)
    site.say(state)
    assert job.outcome(False) is None
    assert site.launcher.adopt(site.cell) is not None


@pytest.mark.parametrize(
    "state, code, end, kind, why",
    [
        ("CANCELLED", "0:15", None, "cancelled", "job 41 was cancelled"),
        ("CANCELLED", "0:15", "stopped", "cancelled", "job 41 was cancelled"),
        ("FAILED", "75:0", None, "held", "another process"),
        (
            "FAILED",
            "143:0",
            "stopped",
            "stopped",
            "interrupted, begins anew: no checkpoint",
        ),
        ("TIMEOUT", "0:1", None, "stopped", "job 41: TIMEOUT; never ran"),
        ("NODE_FAIL", "1:0", None, "stopped", "job 41: NODE_FAIL"),
        ("FAILED", "3:0", None, "failed", "job 41: FAILED, exit status 3"),
        ("OUT_OF_MEMORY", "0:9", None, "failed", "OUT_OF_MEMORY, exit status -9"),
        ("COMPLETED", "0:0", None, "failed", "COMPLETED, exit status 0"),
    ],
)
def test_how_a_job_ended(site, state, code, end, kind, why):
    job = started(site)
    if end:
        attempt(site, status=end, error=None, step=7)
    site.say(state, code)
    outcome = job.outcome(False)
    assert outcome.kind == kind and why in outcome.why
    assert (read_status(site.cell.dir).failure is not None) == (kind == "failed")


def test_files_of_another_host_may_come_late(site, monkeypatch):
    monkeypatch.setattr(slurm, "SETTLE", 60.0)
    job = started(site)
    site.say("COMPLETED")
    assert job.outcome(False) is None and not site.cell.dir.failure.exists()
    summary = {"schema": 1, "hash": site.cell.hash, "step": 3}
    atomic.write_json(site.cell.dir.summary, summary)
    assert job.outcome(False).kind == "done"


def test_what_the_cell_says_of_its_failure_is_told(site):
    job = started(site)
    attempt(site, status="failed", error="ValueError: no", step=1)
    record = {"attempt": 1, "status": "failed", "error": "ValueError: no", "time": 1.0}
    atomic.write_json(site.cell.dir.failure, record)
    site.say("FAILED", "1:0")
    outcome = job.outcome(False)
    assert outcome.kind == "failed" and outcome.why == "job 41: FAILED: ValueError: no"
    assert read_status(site.cell.dir).failure == record, "the runner's word replaced it"


def test_a_job_that_slurm_forgot_is_judged_by_its_records(site):
    job = started(site)
    attempt(site, status="stopped", error=None, step=7)
    (site.root / "job").unlink()
    assert site.launcher.job_state("41") == JobState(None)
    outcome = job.outcome(False)
    assert outcome.kind == "stopped" and "forgotten by Slurm" in outcome.why


def test_a_controller_that_is_silent_is_waited_for(site):
    job = started(site)
    (site.root / "silent").touch()
    assert job.outcome(False) is None and job.outcome(False) is None
    assert len(site.said) == 1 and "Unable to contact" in site.said[0]
    with pytest.raises(PlaceError, match="job 41 may run"):
        site.launcher.adopt(site.cell)


@pytest.fixture
def guarded(site, monkeypatch):
    """A runner that follows the cell's job; turn(seconds) is one look of it, later."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    settings = replace(site.plan.settings, watchdog_seconds=10, watchdog_retries=1)
    plan = replace(site.plan, settings=settings)
    runner = Runner(plan, site.launcher, Plain(plan))
    site.say("PENDING")
    runner._fill()

    def turn(seconds=1.0):
        now[0] += seconds
        runner._collect()
        runner._guard()

    site.turn, site.runner = turn, runner
    site.cancelled = lambda: (
        (site.root / "cancelled").read_text().splitlines()
        if (site.root / "cancelled").exists()
        else []
    )
    return site


def hang(site):
    """The running job's heartbeat stands still, until the job is cancelled."""
    site.say("RUNNING")
    site.turn()
    site.turn(11)


def test_a_running_job_without_a_heartbeat_is_cancelled_and_submitted_anew(guarded):
    hang(guarded)
    signals = [f"--signal={name} --full 41" for name in ("USR1", "CONT")]
    assert guarded.cancelled() == signals
    (job,) = guarded.runner._children
    assert "no heartbeat for" in job.hung and "before its first beat" in job.hung
    for path in (guarded.cell.dir.stacks, guarded.cell.dir.train_log):
        assert "job 41: no heartbeat for" in path.read_text()
    guarded.turn(1)
    assert guarded.cancelled() == signals, "no time for the stacks"
    guarded.turn(5)
    assert guarded.cancelled() == [*signals, "41"]
    guarded.turn(11)
    assert guarded.cancelled() == [*signals, "41"], "a second time"
    guarded.turn(60)
    assert guarded.cancelled() == [*signals, "41", "41"], "Slurm may not have heard"
    assert not guarded.runner._queue, "beside the job that goes on"
    attempt(guarded, status="stopped", error=None, step=7)
    guarded.say("CANCELLED", "0:15")
    guarded.turn(1)
    assert [cell.hash for cell in guarded.runner._queue] == [guarded.cell.hash]
    guarded.runner._fill()
    assert (guarded.root / "submitted").read_text().count("\n") == 2


def test_a_job_that_always_hangs_has_failed(guarded):
    for number in (1, 2):
        hang(guarded)
        guarded.turn(6)
        guarded.say("CANCELLED", "0:15")
        guarded.turn(1)
        guarded.runner._fill()
    status = read_status(guarded.cell.dir)
    assert status.state == "failed" and "job 41: no heartbeat" in status.reason
    assert guarded.runner.outcomes[guarded.cell.hash].kind == "failed"
    assert (guarded.root / "submitted").read_text().count("\n") == 2


@pytest.mark.parametrize("state", ["PENDING", "SUSPENDED", "COMPLETING", "REQUEUED"])
def test_a_job_that_does_not_run_may_stand_still(guarded, state):
    guarded.say("RUNNING")
    guarded.turn(9)
    guarded.say(state)
    for _ in range(5):
        guarded.turn(100)
    guarded.say("RUNNING")
    for _ in range(9):
        guarded.turn()
    assert guarded.cancelled() == [], "its seconds count from the time it runs"
    guarded.turn(11)
    assert len(guarded.cancelled()) == 2


def test_a_job_whose_heartbeat_moves_is_left_alone(guarded):
    guarded.say("RUNNING")
    for step in range(20):
        with open(guarded.cell.dir.progress(), "a") as file:
            file.write("{}\n")
        guarded.turn(6)
    assert guarded.cancelled() == []


def test_a_job_that_hung_and_finished_all_the_same_is_done(guarded):
    hang(guarded)
    summary = {"schema": 1, "hash": guarded.cell.hash, "step": 3}
    summary["final_eval"] = {"step": 3, "loss": 1.0}
    atomic.write_json(guarded.cell.dir.summary, summary)
    guarded.turn(1)
    assert guarded.runner.outcomes[guarded.cell.hash].kind == "done"


def test_a_refusal_is_an_error_of_one_cell(site):
    (site.root / "refuse").touch()
    with pytest.raises(SubmitError, match="invalid partition"):
        site.launcher.start(site.cell, Slot())
    assert not site.cell.dir.slurm.exists()


def test_what_cannot_be_a_job(site, monkeypatch):
    assert all_at_once(site.plan, sys.executable).jobs == 1
    spread = replace(site.plan.settings.slurm, nodes=2)
    settings = replace(site.plan.settings, slurm=spread)
    with pytest.raises(PlaceError, match="each node takes the same number"):
        all_at_once(replace(site.plan, settings=settings), sys.executable)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PlaceError, match="no sbatch here"):
        all_at_once(site.plan, sys.executable)


def on_gpus(site, ranks):
    values = {**site.cell.values, "GPUS_PER_RUN": ranks}
    return replace(site.cell, values=values, device="cuda", threads=None)


def script(site, ranks=1, **settings):
    wanted = replace(PLAIN, **settings)
    argv = ["train.py", "--run-dir", "a b"]
    text = jobscript.text(site.root, on_gpus(site, ranks), "py", argv, wanted)
    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    return text


def test_the_script_of_one_gpu(site):
    text = script(site, partition="gpu", account="lab", time="12:00:00")
    options = [line.split(" ", 1)[1] for line in text.splitlines() if "#SBATCH" in line]
    assert options == [
        f"--job-name={jobscript.name(site.cell)}",
        f"--chdir={site.root}",
        f"--output={site.cell.dir.train_log}",
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@120",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=4",
        "--gres=gpu:1",
        "--gres-flags=enforce-binding",
        "--partition=gpu",
        "--account=lab",
        "--time=12:00:00",
    ]
    assert "\npy train.py --run-dir 'a b' &\n" in text
    assert '/triton-$gpus}"\n' in text


def test_the_script_of_four_gpus_and_more_options(site):
    text = script(site, 4, gres="gpu:a100", cpus=8, options="--mem=64G --comment='a b'")
    assert "#SBATCH --gres=gpu:a100:4\n" in text
    assert "#SBATCH --cpus-per-task=32\n" in text
    assert '#SBATCH --mem=64G\n#SBATCH "--comment=a b"\n' in text
    assert (
        '--nproc-per-node 4 --master-addr 127.0.0.1 --master-port "$MASTER_PORT"'
        in text
    )


def test_the_script_of_two_nodes(site):
    text = script(site, 8, nodes=2)
    assert "#SBATCH --nodes=2\n" in text and "#SBATCH --gres=gpu:4\n" in text
    assert (
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 py "
        "distributed/torchrun.py --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d "
        '--rdzv-endpoint "$RDZV_ENDPOINT" --rdzv-id "$RDZV_ID" train.py'
    ) in text
    assert 'scancel --signal=TERM "$SLURM_JOB_ID"' in text


def test_the_script_of_a_cpu_cell(site):
    text = jobscript.text(site.root, site.cell, "py", ["train.py"], PLAIN)
    assert "gres" not in text
    own = '"${TORCHINDUCTOR_CACHE_DIR:-$node/inductor}"'
    assert f"export TORCHINDUCTOR_CACHE_DIR={own}" in text
    assert "export PYTHONSAFEPATH=1\nexport PYTHONDONTWRITEBYTECODE=1\n" in text
    assert "export OMP_NUM_THREADS=" in text


def test_auto_is_refused(checkout):
    from matrix.plan.device import DeviceError

    checkout.base = checkout.base.replace("CONFIG_DEVICE_CPU=y\n", "")
    checkout.configure("CONFIG_LAUNCHER_SLURM=y", "CONFIG_DEVICE_AUTO=y")
    with pytest.raises(DeviceError, match="Slurm runs cells on others"):
        checkout.plan()


ODD = ("\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\udcff")
"""What ends a line for somebody, or is no text."""


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["partition", "account", "time", "gres", "options"])
def test_a_setting_of_several_lines_is_refused(name, odd):
    """In one line, by its symbol; "options" hides it in a word of its own."""
    value = f"a{odd}touch p"
    for written in (value, f"'{value}'", f"{odd}a", f"a{odd}"):
        with pytest.raises(SettingsError) as refused:
            replace(PLAIN, **{name: written})
        said = str(refused.value)
        assert said.startswith(
            f"CONFIG_SLURM_{name.upper()}={written!r}: holds {odd!r}"
        )
        assert said.isprintable()


def test_a_path_of_several_lines_is_refused(site):
    """Whatever it names; before the first job where a plan can know it."""
    cell, words = site.cell, ["train.py"]
    for odd in ODD:
        path = site.root / f"a{odd}touch p"
        elsewhere, far = replace(cell, dir=CellDir(path)), replace(cell, dataset=path)
        bad = {
            "CONFIG_OUTPUT_DIR": (site.root, elsewhere, "py", words),
            "CONFIG_DATA_DIR": (site.root, far, "py", words),
            "the cell": (site.root, replace(cell, step=f"a{odd}b"), "py", words),
            "this checkout": (path, cell, "py", words),
            "python": (site.root, cell, f"py{odd}", words),
            "the command": (site.root, cell, "py", [f"train{odd}.py"]),
        }
        for what, given in bad.items():
            with pytest.raises(PlaceError) as refused:
                jobscript.text(*given, PLAIN)
            said = str(refused.value)
            assert said.startswith(f"{what}: ") and f"holds {odd!r}" in said
            assert said.isprintable()
        with pytest.raises(PlaceError, match="CONFIG_OUTPUT_DIR"):
            all_at_once(replace(site.plan, cells=(elsewhere,)), sys.executable)
    assert not (site.root / "submitted").exists()


def test_an_override_of_several_lines_is_refused_in_one(checkout):
    with pytest.raises(ConfigError) as refused:
        checkout.plan(CONFIG_SLURM_ACCOUNT="lab\ntouch p")
    said = str(refused.value)
    assert "CONFIG_SLURM_ACCOUNT" in said and "\n" not in said


def sbatch_reads(line):
    """The words of a line as sbatch takes it apart: a backslash escapes anywhere."""
    words, word, quote, escaped = [], None, "", False
    for c in line:
        if escaped:
            word, escaped = (word or "") + c, False
        elif c == "\\":
            escaped = True
        elif quote and c == quote:
            quote = ""
        elif not quote and c in "\"'":
            quote, word = c, word or ""
        elif not quote and c == "#":
            break
        elif not quote and c.isspace():
            words, word = words + [word] * (word is not None), None
        else:
            word = (word or "") + c
    return words + [word] * (word is not None)


def test_sbatch_and_the_shell_read_what_was_meant(site):
    """Blanks, quotes, backslashes, # and what a shell would run, in every place."""
    hostile = "a 'b\" # $(touch p) `touch p` \\n ; touch p"
    fields = {name: hostile for name in ("partition", "account", "time", "gres")}
    text = script(site, ranks=2, options=shlex.quote(f"--comment={hostile}"), **fields)
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH ")]
    read = [sbatch_reads(line.removeprefix("#SBATCH ")) for line in lines]
    assert all(len(words) == 1 for words in read)
    for option in ("partition=", "account=", "time=", "comment="):
        assert [f"--{option}{hostile}"] in read
    assert [f"--gres={hostile}:2"] in read
    root = site.root / hostile.replace("/", "").replace("\\", "")
    cell = replace(on_gpus(site, 2), dir=CellDir(root / "cell"), dataset=root / "data")
    words = [f"{root}/gpt2/train.py", "--run-dir", str(cell.dir.path), "$(touch p)"]
    text = jobscript.text(root, cell, f"{root}/python", words, PLAIN)
    assert [f"--chdir={root}"] in [
        sbatch_reads(line.removeprefix("#SBATCH ")) for line in text.splitlines()
    ]
    (root / "cell").mkdir(parents=True)
    (root / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$SAID"\n')
    (root / "python").chmod(0o755)
    said = site.root / "said"
    subprocess.run(
        ["sh"], input=text, text=True, cwd=site.root, env={**os.environ, "SAID": said}
    )
    assert said.read_text().splitlines()[-len(words) :] == words
    assert not (site.root / "p").exists() and (root / "cell" / ".began").exists()


def test_a_log_that_slurm_would_write_elsewhere_is_refused(site):
    cell = replace(site.cell, dir=CellDir(site.root / "a\\b"))
    with pytest.raises(PlaceError, match="CONFIG_OUTPUT_DIR: .*backslash"):
        jobscript.text(site.root, cell, "py", ["train.py"], PLAIN)
