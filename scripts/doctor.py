#!/usr/bin/env python3
"""`make doctor`: what this machine has, what the project would use, what is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print the facts; 1 when something the project needs is missing."""
    cores = len(os.sched_getaffinity(0))
    missing = ["Python 3.11 or newer"] * (sys.version_info < (3, 11))
    print(f"python     {platform.python_version()} at {sys.executable}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    print(f"machine    {platform.platform()}, cores: {cores}, {memory:.1f} GiB")
    print(f"threads    a CPU cell gets {cores} / JOBS unless CONFIG_CPU_THREADS is set")
    print(f"disk       {shutil.disk_usage(ROOT).free / 2**30:.1f} GiB free here")
    for name, wanted in requirements():
        copies = importlib.metadata.distributions(name=name)
        found = next((copy.version for copy in copies), None)
        if found is None:
            missing.append(f"{name} {wanted} (make setup, or pip install)")
        same = found is None or found.partition("+")[0] == wanted
        note = "" if same else f" (tested with {wanted})"
        print(f"package    {name} {found or 'MISSING'}{note}")
    print(f"torch      {torch_build()}")
    print(f"driver     {driver()}")
    dotconfig = Path(os.environ.get("KCONFIG_CONFIG") or ".config")
    python = "config.py" if dotconfig.name == ".config" else f"{dotconfig.name}.py"
    for path in (dotconfig, dotconfig.with_name(python)):
        state = "there" if path.exists() else "not there (make defconfig-NAME)"
        print(f"config     {path}: {state}")
    print("".join(f"missing    {item}\n" for item in missing), end="")
    return 1 if missing else 0


def requirements() -> list[tuple[str, str]]:
    """(name, version) of every package a study needs."""
    names = "pyproject.toml", "requirements-torch.txt"
    project, pinned = ((ROOT / name).read_bytes().decode() for name in names)
    lines = pinned.splitlines() + tomllib.loads(project)["dependency-groups"]["base"]
    return [tuple(line.split("==")) for line in lines if "==" in line]


def torch_build() -> str:
    """torch's build and the GPUs it sees."""
    if importlib.util.find_spec("torch") is None:
        return "MISSING"
    with entry.importing():
        import torch
    kind = torch.version.hip and f"ROCm {torch.version.hip}"
    kind = kind or (torch.version.cuda and f"CUDA {torch.version.cuda}") or "CPU build"
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    seen = ", ".join(f"{g.name} {g.total_memory / 2**30:.0f} GiB" for g in gpus)
    return f"{torch.__version__}, {kind}; GPUs: {seen or 'none'}"


def driver() -> str:
    """What the GPU drivers' own tools report."""
    query = ["--query-gpu=name,driver_version", "--format=csv,noheader"]
    for tool, query in (("nvidia-smi", query), ("rocm-smi", ["--showdriverversion"])):
        if shutil.which(tool):
            done = subprocess.run([tool, *query], capture_output=True, encoding="utf-8")
            return " | ".join((done.stdout or done.stderr).split("\n")).strip(" |")
    return "no nvidia-smi, no rocm-smi"


if __name__ == "__main__":
    entry.run(main)
