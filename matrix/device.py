"""Where the cells of a plan run: the device, the jobs, the threads.

`auto` is resolved here, once, by asking torch in a process of its own (the
planner itself never imports it); the answer is printed and recorded.
"""

import os
import subprocess
from typing import Any, Callable, Iterable, Mapping

DEVICES = {"auto": "DEVICE_AUTO", "cpu": "DEVICE_CPU", "cuda": "DEVICE_CUDA"}
QUESTION = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"


class DeviceError(Exception):
    """The device cannot be resolved; the message says why."""


def device_of(values: Mapping[str, Any]) -> str:
    """auto, cpu or cuda, as configured."""
    return next(name for name, symbol in DEVICES.items() if values[symbol])


def probe(python: str) -> str:
    """What torch finds for this interpreter: "cuda" or "cpu".

    Raises DeviceError when torch cannot be asked.
    """
    done = subprocess.run(
        [python, "-c", QUESTION], capture_output=True, text=True, check=False
    )
    answer = done.stdout.strip()
    if done.returncode or answer not in ("cpu", "cuda"):
        last = (done.stderr.strip() or answer or "no answer").splitlines()[-1]
        raise DeviceError(
            f"{python} cannot ask torch for a GPU: {last}; install torch there, or "
            "choose DEVICE=cpu"
        )
    return answer


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


def require_gpu(ask: Callable[[], str]) -> None:
    """Raise DeviceError unless torch finds a GPU."""
    if ask() != "cuda":
        raise DeviceError(
            "DEVICE=cuda: torch finds no GPU here: `make doctor` says what there is; "
            "choose DEVICE=cpu or DEVICE=auto, or another machine"
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


def thread_notes(threads: Iterable[int | None], jobs: int, cores: int) -> list[str]:
    """How the CPU cells share the cores; a GPU cell's thread count is None."""
    counts = sorted({count for count in threads if count is not None})
    notes = [f"{jobs} at a time, {n} threads each, {cores} cores" for n in counts]
    if counts and counts[-1] * jobs > cores:
        notes.append("more threads than cores: expect it to be very slow")
    return notes
