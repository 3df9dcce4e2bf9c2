"""Where the cells of a plan run: the device, the jobs, the threads.

`auto` is resolved here, once, by asking torch in a process of its own (the
planner itself never imports it); the answer is printed and recorded.
"""

import os
import subprocess
from typing import Any, Callable, Mapping

DEVICES = {"auto": "DEVICE_AUTO", "cpu": "DEVICE_CPU", "cuda": "DEVICE_CUDA"}
QUESTION = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"


class DeviceError(Exception):
    """The device cannot be resolved; the message says why."""


def device_of(values: Mapping[str, Any]) -> str:
    """auto, cpu or cuda, as configured."""
    return next(name for name, symbol in DEVICES.items() if values[symbol])


def probe(python: str) -> str:
    """What `auto` means to this interpreter: "cuda" or "cpu".

    Raises DeviceError when torch cannot be asked.
    """
    done = subprocess.run(
        [python, "-c", QUESTION], capture_output=True, text=True, check=False
    )
    answer = done.stdout.strip()
    if done.returncode or answer not in ("cpu", "cuda"):
        last = (done.stderr.strip() or answer or "no answer").splitlines()[-1]
        raise DeviceError(
            f"DEVICE=auto: {python} cannot ask torch for a GPU: {last}; install "
            "torch there, or choose DEVICE=cpu or DEVICE=cuda"
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


def thread_count(threads: int, jobs: int, cores: int) -> int:
    """Threads of a CPU cell: CPU_THREADS, or its share of the cores."""
    return threads or max(1, cores // jobs)
