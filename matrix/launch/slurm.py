"""Cells as jobs of Slurm, one each.

The job's script lies in the cell's directory, and so does slurm.json with the
job's id. How a job stands is asked of scontrol (sacct needs a database), what it
came to is read from the cell's own records. Jobs go on without the runner: the
next `make` finds them by slurm.json and follows them again.
"""

import fcntl
import re
import shutil
import socket
import subprocess
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping, Sequence

from matrix.fleet.place import PlaceError, Slot
from matrix.launch import jobscript, prepare, watchdog
from matrix.launch.child import LEASE_HELD, Outcome, write_failure
from matrix.plan.cells import Cell, Plan
from records import atomic, read
from records.cell import DAMAGED, CellStatus, status_of
from records.layout import SCHEMA

INTERVAL = 2.0
"""Seconds between two questions about a job; more when there are many."""
PER_JOB = 0.1
"""Seconds that each further job adds: ten questions a second at most."""
SETTLE = 60.0
"""Seconds that another host's new files may take to be seen here (NFS)."""
CANCEL_AGAIN = 60.0
"""Seconds until a job that hangs is cancelled again: Slurm may not have answered."""
RUNNING = "RUNNING"
ENDED = {"COMPLETED", "FAILED", "OUT_OF_MEMORY", "CANCELLED", "REVOKED"}
TAKEN = {"TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
"""States in which the cluster, and not the cell, ended the job."""
UNKNOWN = "Invalid job id"
"""What scontrol says of a job that Slurm has forgotten (MinJobAge)."""


class SubmitError(OSError):
    """sbatch refused a job; the message is what it said."""


@dataclass(frozen=True)
class JobState:
    """What scontrol says of a job: its state, None when Slurm forgot it."""

    state: str | None
    name: str = ""
    code: int = 0

    @property
    def over(self) -> bool:
        """Whether the job will not go on."""
        return self.state is None or self.state in ENDED | TAKEN


@dataclass
class Job:
    """A submitted cell."""

    cell: Cell
    id: str
    launcher: "Slurm"
    began: float = field(default_factory=time.monotonic)
    hung: str = ""

    def __post_init__(self) -> None:
        self._due, self._over = 0.0, float("inf")
        self._state: str | None = None
        self._end = float("inf")
        self._failed = _failure_time(status_of(self.cell.dir, self.cell.hash))

    def outcome(self, stopping: bool) -> Outcome | None:
        """None while the job is queued or runs."""
        if time.monotonic() < self._due:
            return None
        self._due = time.monotonic() + self.launcher.interval
        if time.monotonic() >= self._end:  # its stacks are written, or never will be
            self._end = time.monotonic() + CANCEL_AGAIN
            self.terminate()
        seen = self.launcher.job_state(self.id)
        self._state = seen.state if seen is not None else None
        status = status_of(self.cell.dir, self.cell.hash)
        if status.state == "done":
            return Outcome("done")
        if status.state == DAMAGED:
            return Outcome(DAMAGED, f"job {self.id}: {status.reason}")
        if seen is None or not seen.over:
            return None
        self._over = min(self._over, time.monotonic())
        return self._judge(seen, status)

    def _judge(self, seen: JobState, status: CellStatus) -> Outcome | None:
        """What became of a job that is over; None while its files may be on the way."""
        what = f"job {self.id}: {seen.state or 'forgotten by Slurm'}"
        if self.hung:
            return Outcome("hung", self.hung)
        if seen.state == "CANCELLED":
            return Outcome("cancelled", f"job {self.id} was cancelled")
        if seen.code == LEASE_HELD or status.holder is not None:
            return Outcome("held", str(status.holder or "another process"))
        if _failure_time(status) != self._failed and status.failure is not None:
            kind = "diverged" if status.state == "diverged" else "failed"
            return Outcome(kind, f"{what}: {status.failure['error']}")
        stopped = (
            status.attempts[-1:] and status.attempts[-1].get("status") == "stopped"
        )
        if stopped or seen.state in TAKEN or seen.state is None:
            return Outcome("stopped", f"{what}; {status.reason}")
        if time.monotonic() - self._over < SETTLE:
            return None
        why = f"{what}, exit status {seen.code}"
        why += write_failure(self.cell.dir, seen.code, why)
        return Outcome("failed", why)

    @property
    def moving(self) -> bool:
        """Whether Slurm said last that the job runs."""
        return self._state == RUNNING

    def terminate(self) -> None:
        """scancel: SIGTERM, and SIGKILL after the cluster's KillWait."""
        _ask(["scancel", self.id])

    def kill(self) -> None:
        """SIGKILL at once."""
        _ask(["scancel", "--signal=KILL", "--full", self.id])

    def hang(self, why: str) -> None:
        """Stacks now, scancel some seconds later: a new job goes on.

        --full reaches the script's children: what trains, and torchrun, which
        passes USR1 on. CONT wakes what was stopped.
        """
        self.hung = watchdog.note(self.cell.dir, f"job {self.id}: {why}")
        for name in ("USR1", "CONT"):
            _ask(["scancel", f"--signal={name}", "--full", self.id])
        self._end = time.monotonic() + watchdog.DUMP


@dataclass
class Slurm:
    """Submits cells and follows their jobs."""

    plan: Plan
    python: str
    provenance: Mapping[str, Any]
    say: Callable[[str], None]
    outlives = True
    _followed: int = 0
    _silent: bool = False

    def order(self, cells: Sequence[Cell]) -> list[Cell]:
        """As planned: Slurm decides what starts when."""
        return list(cells)

    def adopt(self, cell: Cell) -> Job | None:
        """The job that an earlier `make` submitted, if it is still to come or runs.

        Raises RecordError for a slurm.json that names none.
        """
        path = cell.dir.slurm
        try:
            id_ = read.job(path)["job"]
        except FileNotFoundError:
            return None
        seen = self.job_state(id_)
        if seen is None:
            raise PlaceError(f"{path}: job {id_} may run, and Slurm does not answer")
        if seen.over or seen.name != jobscript.name(cell):
            return None
        return self._follow(cell, id_)

    def take(
        self, queue: deque[Cell], say: Callable[[str], None]
    ) -> tuple[Cell, Slot] | None:
        """The next cell; Slurm has room or makes it wait."""
        return queue.popleft(), Slot()

    def start(self, cell: Cell, slot: Slot) -> tuple[Job, list[str]]:
        """Submit the cell, unless another `make` did so meanwhile.

        Raises SubmitError, and OSError for a link among its files.
        """
        prepare.refuse_links(cell.dir)
        cell.dir.path.mkdir(parents=True, exist_ok=True)
        script = cell.dir.job_script
        argv = ["sbatch", "--parsable", str(script)]
        with open(cell.dir.path / ".submit", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.adopt(cell)
            if found is not None:
                return found, argv
            settings = self.plan.settings.slurm
            script_argv = prepare.script(self.plan, cell)
            text = jobscript.text(
                self.plan.root, cell, self.python, script_argv, settings
            )
            prepare.write(self.plan, cell, argv, self.provenance)
            atomic.write_text(script, text)
            done = _ask(argv)
            if done.returncode:
                raise SubmitError(done.stderr.strip() or f"sbatch: {done.returncode}")
            id_ = done.stdout.strip().partition(";")[0]
            record = {"schema": SCHEMA, "job": id_, "time": time.time()}
            atomic.write_json(
                cell.dir.slurm, {**record, "submitted_on": socket.gethostname()}
            )
        return self._follow(cell, id_), argv

    def farewell(self, work: Sequence[Job]) -> str:
        """How to come back to the jobs, and how to end them."""
        ids = " ".join(job.id for job in work)
        if not ids:
            return "no job is under way"
        return (
            f"jobs go on in Slurm; `make` follows them again, `scancel {ids}` ends them"
        )

    @property
    def interval(self) -> float:
        """Seconds between two questions about one job."""
        return max(INTERVAL, PER_JOB * self._followed)

    def job_state(self, id_: str) -> JobState | None:
        """How the job stands; None, said once, while Slurm does not answer."""
        done = _ask(["scontrol", "show", "job", "--oneliner", id_])
        if done.returncode and UNKNOWN in done.stderr:
            return JobState(None)
        if done.returncode:
            if not self._silent:
                self.say(f"Slurm does not answer, trying on: {done.stderr.strip()}")
            self._silent = True
            return None
        self._silent = False
        facts = dict(re.findall(r"\b(JobState|JobName|ExitCode)=(\S+)", done.stdout))
        code, _, number = facts["ExitCode"].partition(":")
        return JobState(facts["JobState"], facts["JobName"], int(code) or -int(number))

    def _follow(self, cell: Cell, id_: str) -> Job:
        self._followed += 1
        return Job(cell, id_, self)


def all_at_once(plan: Plan, python: str) -> Plan:
    """The plan with every pending cell submitted at once, unless JOBS says less.

    Raises PlaceError for cells that cannot be jobs.
    """
    if shutil.which("sbatch") is None:
        raise PlaceError(
            "CONFIG_LAUNCHER_SLURM: there is no sbatch here: run `make` on a login "
            "node of the cluster, or choose CONFIG_LAUNCHER_LOCAL"
        )
    nodes, most = plan.settings.slurm.nodes, plan.settings.launch.most_gpus
    for cell in plan.pending:
        ranks = cell.values["GPUS_PER_RUN"]
        if ranks % nodes or ranks // nodes > most:
            raise PlaceError(
                f"{cell.name}: CONFIG_GPUS_PER_RUN={ranks} on CONFIG_SLURM_NODES={nodes}: "
                f"each node takes the same number, {most} at most "
                "(CONFIG_MAX_GPUS_PER_RUN)"
            )
        script = prepare.script(plan, cell)
        jobscript.text(plan.root, cell, python, script, plan.settings.slurm)
    return replace(plan, jobs=plan.settings.jobs or max(1, len(plan.pending)))


def _failure_time(status: CellStatus) -> float | None:
    return None if status.failure is None else status.failure.get("time")


def _ask(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    how = {"encoding": "utf-8", "errors": "replace", "check": False}
    return subprocess.run(argv, capture_output=True, **how)
