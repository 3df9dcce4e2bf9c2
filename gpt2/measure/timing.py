"""Times on a device, one thing against another."""

import statistics
import time
from collections.abc import Callable

import torch


def milliseconds(work: Callable[[], None], calls: int, device: torch.device) -> float:
    """Mean time of a call, in ms, from the first's start to the last's end."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / calls
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return 1e3 * (time.perf_counter() - began) / calls


def compared(
    work: Callable[[], None],
    baseline: Callable[[], None],
    device: torch.device,
    rounds: int,
    calls: int,
) -> tuple[float, float]:
    """Median ms of either, in turns, so that both see the same clock rates."""
    pairs = [
        (milliseconds(work, calls, device), milliseconds(baseline, calls, device))
        for _ in range(rounds)
    ]
    of_work, of_baseline = zip(*pairs)
    return statistics.median(of_work), statistics.median(of_baseline)
