"""A real Slurm on this host: one controller, two nodes, fake GPUs.

Everything lies below one directory and runs in the foreground of processes that
the test owns: munged, slurmctld and two slurmd, as root, without systemd and
without a database. The GPUs are character devices with Cores= in gres.conf.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue")
NODES = ("n1", "n2")
GPUS = 2

CONF = """\
ClusterName=kablate
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.socket,cred_expire=8
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=100000,bf_interval=1,sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
MpiDefault=none
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=600
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=2 RealMemory=1000 Gres=gpu:2 State=UNKNOWN\n"
)
GRES = "NodeName={name} Name=gpu File={root}/dev/{name}-gpu{n} Cores={n}\n"


def missing() -> str | None:
    """Why no cluster can be started here; None when one can."""
    absent = [name for name in PROGRAMS if program(name) is None]
    if absent:
        return (
            f"no {', '.join(absent)}: apt install slurmctld slurmd slurm-client munge"
        )
    if os.getuid() != 0:
        return "the daemons and mknod need root"
    return None


def program(name: str) -> str | None:
    """Where it is; the daemons lie in sbin."""
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


class Cluster:
    """Use it in a with statement; `environment` makes the commands talk to it."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {"SLURM_CONF": str(root / "slurm.conf")}
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        self._write()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end_jobs()
        for daemon in reversed(self._daemons):  # munged last: the others need it
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def end_jobs(self, seconds: float = 60.0) -> None:
        """Cancel what is left, and wait until its processes are gone."""
        self.run("scancel", "--user", "root", check=False)
        deadline = time.monotonic() + seconds
        while self.run("squeue", "--noheader", check=False).strip():
            assert time.monotonic() < deadline, "jobs do not end"
            time.sleep(0.2)

    def run(self, name: str, *arguments: str, check: bool = True) -> str:
        """A command of Slurm; its output."""
        done = subprocess.run(
            [program(name), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (name, arguments, done.stderr)
        return done.stdout

    def jobs(self) -> dict[str, dict[str, str]]:
        """{job id: its facts} of all jobs that Slurm remembers."""
        found = {}
        for line in self.run("scontrol", "show", "job", "--oneliner").splitlines():
            facts = dict(f.split("=", 1) for f in line.split() if "=" in f)
            if "JobId" in facts:
                found[facts["JobId"]] = facts
        return found

    def detail(self, job: str) -> str:
        """What Slurm says of a job, with its CPUs and GPUs by node."""
        return self.run("scontrol", "show", "job", "--detail", job)

    def _write(self) -> None:
        root, host = self.root, socket.gethostname()
        for name in ("state", "dev", *(f"spool-{node}" for node in NODES)):
            (root / name).mkdir()
        ports = _free_ports(1 + len(NODES))
        conf = CONF.format(root=root, host=host, ctld=ports[0])
        gres = ""
        for name, port in zip(NODES, ports[1:]):
            conf += NODE.format(name=name, host=host, port=port)
            for n in range(GPUS):
                os.mknod(root / f"dev/{name}-gpu{n}", 0o20666, os.makedev(1, 3))
                gres += GRES.format(name=name, root=root, n=n)
        # NodeName has to come before the partition that names it.
        lines = conf.splitlines(keepends=True)
        lines.sort(key=lambda line: line.startswith("PartitionName"))
        (root / "slurm.conf").write_text("".join(lines))
        (root / "gres.conf").write_text(gres)
        key = root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    def _start(self) -> None:
        munge = [
            f"--{n}={self.root}/munge.{n}" for n in ("socket", "pid-file", "log-file")
        ]
        key = [
            f"--key-file={self.root}/munge.key",
            f"--seed-file={self.root}/munge.seed",
        ]
        self._daemon("munged", "--foreground", "--force", *munge, *key)
        self._wait_for((self.root / "munge.socket").exists)
        self._daemon("slurmctld", "-D", "-c", "-f", str(self.root / "slurm.conf"))
        for name in NODES:
            self._daemon(
                "slurmd", "-D", "-N", name, "-f", str(self.root / "slurm.conf")
            )
        self._wait_for(lambda: self._states().count("idle") == len(NODES))

    def _states(self) -> list[str]:
        done = self.run("sinfo", "--noheader", "--Node", "-o", "%t", check=False)
        return done.split()

    def _daemon(self, name: str, *arguments: str) -> None:
        log = open(self.root / f"{name}-{len(self._daemons)}.out", "wb")
        with log:
            self._daemons.append(
                subprocess.Popen(
                    [program(name), *arguments],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.root,
                )
            )

    def _wait_for(self, condition, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self._logs()
            time.sleep(0.1)

    def _logs(self) -> str:
        texts = [path.read_text()[-2000:] for path in sorted(self.root.glob("*.out"))]
        return "Slurm did not come up:\n" + "\n".join(texts)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
