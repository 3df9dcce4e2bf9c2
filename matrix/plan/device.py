"""Where the cells of a plan run: the device, the jobs, the threads.

`auto` is resolved here, once, by asking torch in a process of its own (the
planner itself never imports it); the answer is printed and recorded.
"""

import json
import os
import subprocess
from typing import Any, Callable, Iterable, Mapping

from matrix import units
from records.doing import doing
from records.entry import UTF8
from records.gpu_masks import why_no_gpu

DEVICES = {"auto": "DEVICE_AUTO", "cpu": "DEVICE_CPU", "cuda": "DEVICE_CUDA"}
QUESTION = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
NONE = "torch finds no GPU"
BUILD = """
import json, torch
seen = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
seen = [{"name": g.name, "memory": g.total_memory} for g in seen]
print(json.dumps({"vendor": "amd" if torch.version.hip else "nvidia", "gpus": seen}))
"""


class DeviceError(Exception):
    """The device cannot be resolved; the message says why."""


def device_of(values: Mapping[str, Any]) -> str:
    """auto, cpu or cuda, as configured."""
    return next(name for name, symbol in DEVICES.items() if values[symbol])


def probe(python: str) -> str:
    """What torch finds for this interpreter: "cuda" or "cpu".

    Raises DeviceError when torch cannot be asked.
    """
    answer, said = _run_python(python, QUESTION)
    if answer not in ("cpu", "cuda"):
        raise DeviceError(
            f"{python} cannot ask torch for a GPU: {said}; install torch there, or "
            "choose DEVICE=cpu"
        )
    return answer


def build(python: str) -> dict[str, Any]:
    """{"vendor": "amd" or "nvidia", "gpus": [{name, memory}, …]} as torch sees it.

    Raises DeviceError when torch cannot be asked.
    """
    answer, said = _run_python(python, BUILD)
    if not answer.startswith("{"):
        raise DeviceError(f"{python} cannot ask torch for its GPUs: {said}")
    return json.loads(answer)


def _run_python(python: str, question: str) -> tuple[str, str]:
    """The answer, "" after an error; and the last line that was said."""
    with doing("asking torch for this machine's GPUs"):
        done = subprocess.run(
            [python, "-P", "-c", question],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, **UTF8},
        )
    answer = done.stdout.strip()
    last = (done.stderr.strip() or answer or "no answer").splitlines()[-1]
    return "" if done.returncode else answer, last


def probe_once(python: str) -> Callable[[], str]:
    """`probe`, asked at most once."""
    known: list[str] = []

    def ask() -> str:
        if not known:
            known.append(probe(python))
        return known[0]

    return ask


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def job_count(jobs: int, threads: int, device: str, cores: int) -> int:
    """Cells side by side: JOBS, or the rule of its help when it is 0."""
    if jobs:
        return jobs
    if device == "cpu" and threads:
        return max(1, cores // threads)
    return 1


def require_gpu(ask: Callable[[], str], environment: Mapping[str, str]) -> None:
    """Raise DeviceError, with the mask that hides them, unless torch finds a GPU."""
    if ask() != "cuda":
        raise DeviceError(
            f"DEVICE=cuda: {why_no_gpu(environment) or NONE}: `make doctor` says what there is; "
            "choose DEVICE=cpu or DEVICE=auto, or another machine"
        )


def auto_note(found: str, environment: Mapping[str, str]) -> str:
    """What DEVICE=auto is, and why it is the CPU. Raises records.gpu_masks.MaskError."""
    why = f": {why_no_gpu(environment) or NONE}" if found == "cpu" else ""
    return f"DEVICE=auto is {found} on this machine{why}"


def refuse_auto(slurm: bool) -> None:
    """Raise DeviceError for DEVICE=auto where cells run on other machines."""
    if slurm:
        raise DeviceError(
            "DEVICE=auto would ask this machine, and Slurm runs cells on others: "
            "choose DEVICE=cuda or DEVICE=cpu"
        )


def thread_count(threads: int, jobs: int, cores: int) -> int:
    """Threads of a CPU cell: CPU_THREADS, or its share of the cores.

    Raises DeviceError for more threads than cores: torch would use fewer than
    the run's identity says.
    """
    if threads > cores:
        raise DeviceError(
            f"CONFIG_CPU_THREADS={threads}: this process may use {cores} cores, and "
            f"torch starts no more threads than that: set it to {cores} or less, or to 0"
        )
    return threads or max(1, cores // jobs)


def rank_threads(values: Mapping[str, Any], jobs: int, cores: int) -> int:
    """Threads of each process of a CPU cell, of which there may be several."""
    return thread_count(values["CPU_THREADS"], jobs * values["GPUS_PER_RUN"], cores)


def threads_alone(values: Mapping[str, Any], cores: int) -> int:
    """The threads of each process of a CPU cell, from the values alone."""
    threads = values["CPU_THREADS"] * values["GPUS_PER_RUN"]
    return rank_threads(values, job_count(values["JOBS"], threads, "cpu", cores), cores)


def thread_notes(threads: Iterable[int | None], jobs: int, cores: int) -> list[str]:
    """How the CPU cells share the cores; a GPU cell's thread count is None."""
    counts = sorted({count for count in threads if count is not None})
    notes = [
        f"{jobs} at a time, {units.plural(n, 'thread')} each, {units.plural(cores, 'core')}"
        for n in counts
    ]
    if counts and counts[-1] * jobs > cores:
        notes.append("more threads than cores: expect it to be very slow")
    return notes
