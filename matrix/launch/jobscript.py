"""The script of a cell's job.

Slurm ends a job (preemption, scancel) with SIGTERM to everything in it: the cell
writes a checkpoint and exits, and a preempted job is queued again by --requeue.
Before the time limit only the script is told (--signal=B:TERM); it passes the
signal on and has the job queued again itself, when the cell was stopped with a
checkpoint and nobody cancelled the job.
"""

import re
import shlex
from pathlib import Path
from typing import Sequence

from kconf.bind import NOT_IN_A_LINE
from matrix.fleet import torchrun
from matrix.fleet.place import PlaceError
from matrix.launch import prepare
from matrix.plan.cells import Cell
from matrix.settings import SlurmSettings
from records.provenance import PLACEMENT

BEFORE_LIMIT = 120
"""Seconds before the time limit at which a cell is asked for its checkpoint."""
GPU_CPUS = 4
"""CPUs of a rank on a GPU, where nothing else is configured."""

CACHES = """\
node=${TMPDIR:-/tmp}/kablate-$(id -u)
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$node/inductor}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$node/triton-$gpus}"
"""
"""On the node, not in a home that all nodes share; no two jobs have a GPU in common.
What trains makes them and looks whether they are the user's alone.
"""

PORT = "import socket; s = socket.socket(); s.bind(('', 0)); print(s.getsockname()[1])"

BODY = """\
placed='{{"job": "%s", "nodes": "%s", "gpus": "%s", "restarts": %s}}'
gpus=${{CUDA_VISIBLE_DEVICES:-${{ROCR_VISIBLE_DEVICES:-}}}}
{placement}=$(printf "$placed" "$SLURM_JOB_ID" "$SLURM_JOB_NODELIST" "$gpus" \\
  "${{SLURM_RESTART_COUNT:-0}}")
export {placement}
{exports}
stop=
ask_to_stop() {{
  stop=yes
  {forward}
}}
trap ask_to_stop TERM
trap '' USR1  # what trains writes its stacks, this script goes on
touch {mark}
{command} &
child=$!
wait "$child"
code=$?
if [ -n "$stop" ]; then  # the trap has interrupted the wait
  wait "$child"
  again=$?
  [ "$again" -eq 127 ] || code=$again
fi
stopped() {{ tail -n 1 {attempts} | grep -q '"status": "stopped"'; }}
advanced() {{ [ -n "$(find {checkpoints} -newer {mark} -type f)" ]; }}
running() {{ scontrol show job --oneliner "$SLURM_JOB_ID" | grep -q ' JobState=RUNNING '; }}
if [ -n "$stop" ] && stopped && advanced && running; then
  echo "the time limit is near: queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def name(cell: Cell) -> str:
    """The job's name: by it a job is known again."""
    return f"{cell.step}.seed-{cell.seed}.{cell.hash[:8]}"


def text(
    root: Path,
    cell: Cell,
    python: str,
    script: Sequence[str],
    settings: SlurmSettings,
) -> str:
    """The job's script: its options, and `script` on every rank.

    Raises PlaceError for a name or a path that no line of it can hold.
    """
    _require_lines(root, cell, python, script)
    per_node = cell.values["GPUS_PER_RUN"] // settings.nodes
    options = [*_options(root, cell, settings), *shlex.split(settings.options)]
    lines = [f"#SBATCH {_directive(option)}" for option in options]
    exports = prepare.additions(cell)
    command, before = _command(python, script, settings, per_node)
    lines += ["", *(f"export {k}={shlex.quote(v)}" for k, v in exports.items()), ""]
    body = BODY.format(
        placement=PLACEMENT,
        exports=CACHES + before,
        forward=_forward(settings),
        command=command,
        mark=_quoted(cell.dir.path / ".began"),
        attempts=_quoted(cell.dir.attempts),
        checkpoints=_quoted(cell.dir.checkpoint_dir),
    )
    return "\n".join(["#!/bin/sh", *lines]) + body


def _require_lines(root: Path, cell: Cell, python: str, script: Sequence[str]) -> None:
    """Nothing ends a line, and no path is one that Slurm reads otherwise."""
    parts = {
        "this checkout": str(root),
        "python": python,
        "CONFIG_OUTPUT_DIR": str(cell.dir.path),
        "CONFIG_DATA_DIR": str(cell.dataset),
        "the cell": name(cell),
        "the command": " ".join(script),
    }
    for what, value in parts.items():
        if odd := NOT_IN_A_LINE.search(value):
            why = f"holds {odd[0]!r}: a value of a job's script is one line"
            raise PlaceError(f"{what}: {value!r} {why}")
    if "\\" in str(cell.dir.train_log):
        why = "Slurm takes a backslash out of a log's path"
        raise PlaceError(f"CONFIG_OUTPUT_DIR: {cell.dir.path}: {why}; name another")


def _directive(option: str) -> str:
    r"""An option as sbatch reads it: \ escapes, in quotes as well as outside."""
    if re.fullmatch(r"[\w@%+=:,./-]+", option, re.ASCII):
        return option
    return '"' + re.sub(r'(["\\])', r"\\\1", option) + '"'


def _options(root: Path, cell: Cell, settings: SlurmSettings) -> list[str]:
    per_node = cell.values["GPUS_PER_RUN"] // settings.nodes
    cpus = settings.cpus or (cell.threads if cell.device == "cpu" else GPU_CPUS)
    log = str(cell.dir.train_log).replace("%", "%%")
    found = [
        f"--job-name={name(cell)}",
        f"--chdir={root}",
        f"--output={log}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{BEFORE_LIMIT}",
        f"--nodes={settings.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus * per_node}",
    ]
    if cell.device != "cpu":
        found += [f"--gres={settings.gres}:{per_node}", "--gres-flags=enforce-binding"]
    asked = {"partition": settings.partition, "account": settings.account}
    asked["time"] = settings.time
    return found + [f"--{name}={value}" for name, value in asked.items() if value]


def _command(
    python: str,
    script: Sequence[str],
    settings: SlurmSettings,
    per_node: int,
) -> tuple[str, str]:
    """(what runs the ranks, what has to be exported for it)."""
    if settings.nodes == 1 and per_node == 1:
        return shlex.join([python, *script]), ""
    free = f"MASTER_PORT=$({shlex.join([python, '-c', PORT])})\nexport MASTER_PORT"
    if settings.nodes == 1:
        argv = torchrun.local(python, per_node, "$MASTER_PORT", script)
        return _shell_command(argv), free
    meet = (
        'RDZV_ENDPOINT="$(hostname):$MASTER_PORT"\n'
        'RDZV_ID="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"'
    )
    n = settings.nodes
    srun = ["srun", f"--nodes={n}", f"--ntasks={n}", "--ntasks-per-node=1"]
    argv = [*srun, python, *torchrun.rendezvous(n, per_node, script)]
    return _shell_command(argv), f"{free}\n{meet}"


def _forward(settings: SlurmSettings) -> str:
    if settings.nodes == 1:
        return 'kill -TERM "$child"'
    return 'scancel --signal=TERM "$SLURM_JOB_ID"  # the steps, not this script'


def _shell_command(argv: Sequence[str]) -> str:
    """A command of the shell in which $NAME stands for its value."""
    name = re.compile(r"\$[A-Z_]+")
    return " ".join(f'"{w}"' if name.fullmatch(w) else shlex.quote(w) for w in argv)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
