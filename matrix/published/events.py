"""Samples of the GPUs under one set of names, whoever took them.

Ours lie in gpu.jsonl and in the history of a tracker; W&B's monitor, beside a live
mirror, has names of its own, with "system." before them on the server.
"""

import re
from datetime import datetime
from typing import Any, Callable, Iterable, Mapping

Sample = dict[str, float]
OURS = re.compile(r"gpu/\d+/\w+\Z")
THEIRS = re.compile(r"(?:system\.)?gpu\.(\d+)\.(\w+)\Z")
NAMES: dict[str, tuple[str, Callable[[float], float]]] = {
    "gpu": ("compute_util", float),
    "memory": ("memory_util", float),
    "memoryAllocatedBytes": ("memory_used_gb", lambda value: value / 2**30),
    "powerWatts": ("power_w", float),
    "temp": ("temperature_c", float),
    "smClock": ("clock_mhz", float),
}
"""W&B's name -> ours, and the conversion of its unit."""


def of_devices(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """{gpu/0/power_w: values} of every quantity of every GPU."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if OURS.match(key) and value is not None:
                found.setdefault(key, []).append(value)
    return dict(sorted(found.items()))


def monitored(item: Mapping[str, Any], time: float | str) -> Sample:
    """What a sample of W&B's monitor says of each GPU; `time` unix s or ISO."""
    if isinstance(time, str):
        time = datetime.fromisoformat(_microseconds(time)).timestamp()
    sample: Sample = {"time": time}
    for key, value in item.items():
        match = THEIRS.match(key)
        if match and match[2] in NAMES:
            name, convert = NAMES[match[2]]
            sample[f"gpu/{match[1]}/{name}"] = convert(value)
    return sample


def _microseconds(text: str) -> str:
    """Go writes nanoseconds and drops zeros; Python 3.11 reads up to six digits."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)
