"""The GPU monitor: a thread that samples the run's GPUs into gpu.jsonl.

A row is a sample: attempt, time (unix seconds), step, `gpu/K/QUANTITY` of every
GPU and `gpu/QUANTITY_avg` over those that gave it (docs/operations.md). What the
driver does not give is left out. Nothing that happens here reaches the training.
"""

import resource
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from records.extras import installing
from records.gpu_readers import Nvml, ReadError, Reader, Reading, Smi, Sysfs
from records.jsonl import Appender, Row

AVERAGES = {
    "compute_util": "compute_util_avg",
    "memory_util": "memory_util_avg",
    "memory_used_gb": "memory_used_avg_gb",
    "memory_total_gb": "memory_total_avg_gb",
    "power_w": "power_avg_w",
    "temperature_c": "temperature_avg_c",
    "clock_mhz": "clock_avg_mhz",
    "processes": "processes_avg",
}
DIGITS = 3


def row_of(readings: Sequence[Reading]) -> Row:
    """The quantities of every GPU and their means."""
    row: Row = {}
    for quantity, average in AVERAGES.items():
        values = {
            n: reading[quantity]
            for n, reading in enumerate(readings)
            if quantity in reading
        }
        if values:
            mean = sum(values.values()) / len(values)
            row[f"gpu/{average}"] = round(mean, DIGITS)
        if quantity == "memory_total_gb":  # the same at all times
            continue
        for n, value in values.items():
            row[f"gpu/{n}/{quantity}"] = round(value, DIGITS)
    return row


def addresses(count: int) -> list[str]:
    """PCI addresses (0000:c1:00.0) of the first `count` GPUs that torch sees."""
    names = []
    for index in range(count):
        it = torch.cuda.get_device_properties(index)
        place = (it.pci_domain_id, it.pci_bus_id, it.pci_device_id)
        names.append("{:04x}:{:02x}:{:02x}.0".format(*place))
    return names


def reader(count: int, print_line: Callable[[str], None]) -> Reader:
    """What reads the first `count` GPUs on this machine. Raises ReadError."""
    names = addresses(count)
    if torch.version.hip:
        return Sysfs(names)
    try:
        return Nvml(names)
    except ImportError:
        if shutil.which("nvidia-smi") is None:
            raise ReadError(
                f"neither nvidia-ml-py ({installing('gpu')}) nor nvidia-smi is here"
            ) from None
        print_line(
            "gpu monitor: nvidia-ml-py is not installed, nvidia-smi is run for every "
            f"sample instead ({installing('gpu')})"
        )
        return Smi(names)


class Monitor:
    """Samples while it is entered.

    `build` makes the reader, in the thread, where it cannot delay the run; `step`
    gives the number of completed updates; `print_line` prints one, once when a sample
    fails (the next ones are still tried) and at the end what it cost.
    """

    def __init__(
        self,
        path: Path,
        attempt: int,
        build: Callable[[], Reader],
        step: Callable[[], int],
        print_line: Callable[[str], None],
        interval: float,
    ):
        self.path, self.attempt, self.interval = path, attempt, interval
        self._build, self._step, self._print_line = build, step, print_line
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)
        self.samples, self.cpu_seconds = 0, 0.0

    def __enter__(self) -> "Monitor":
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(self.interval)  # a driver that hangs keeps nobody
        spent = time.monotonic() - self._began
        self._print_line(
            f"gpu monitor: {self.samples} samples, {self.cpu_seconds:.2f} s of a core, "
            f"{100 * self.cpu_seconds / max(spent, 1e-9):.3f} % of {spent:.0f} s"
        )

    def _run(self) -> None:
        try:
            reader = self._build()
        except ReadError as error:
            return self._print_line(f"gpu monitor: off: {error}")
        complained = False
        with Appender(self.path) as file:
            due = time.monotonic()
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due = max(due + self.interval, time.monotonic())
                before = _cpu()
                try:
                    sample = row_of(reader.read())
                    head = {"attempt": self.attempt, "time": time.time()}
                    file.append({**head, "step": self._step(), **sample})
                    self.samples += 1
                except (ReadError, OSError) as error:
                    if not complained:
                        self._print_line(f"gpu monitor: a sample is missing: {error}")
                    complained = True
                self.cpu_seconds += _cpu() - before


def _cpu() -> float:
    """CPU seconds of this thread and of the programs that the process ran."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + children.ru_utime + children.ru_stime
