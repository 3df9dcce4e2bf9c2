"""Where a run comes from: code state, machine, packages, command.

Nothing here decides anything; it is what a reader needs to repeat a run.
Credentials are kept out: environment variables come from a fixed list, and
the repository's remotes are not recorded.
"""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from records.files import shown
from records.private import CACHES

PACKAGES = ("torch", "numpy", "triton", "pytorch-triton-rocm", "kconfiglib")
ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "ATEN_CPU_CAPABILITY",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "WANDB_MODE",
    "WANDB_DISABLED",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
)
NUMERIC = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TRITON_F32_DEFAULT",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "DISABLE_ADDMM_CUDA_LT",
    "TORCH_CUDNN_V8_API_DISABLED",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NCCL_NVLS_ENABLE",
    "MIOPEN_FIND_MODE",
    "MIOPEN_FIND_ENFORCE",
    "TORCH_BLAS_PREFER_HIPBLASLT",
    "HSA_OVERRIDE_GFX_VERSION",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCHINDUCTOR_MAX_AUTOTUNE_GEMM",
    "TORCHINDUCTOR_MAX_AUTOTUNE_POINTWISE",
    "TORCHINDUCTOR_COORDINATE_DESCENT_TUNING",
    "TORCHINDUCTOR_EMULATE_PRECISION_CASTS",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
)
"""Variables by which libraries compute, round, order their sums or allocate otherwise."""
PLACEMENT = "KABLATE_PLACEMENT"
"""Where the launcher tells a training process on what it was put, as JSON."""
MAX_DIFF = 1 << 20
"""Bytes of the dirty diff that are kept; its hash always covers all of it."""


def gather(root: Path | str) -> dict[str, Any]:
    """The provenance of this process, with the repository at `root`."""
    return {
        "time": time.time(),
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": package_versions(),
        "command": sys.argv,
        "environment": {k: os.environ[k] for k in ENVIRONMENT if k in os.environ},
        "git": git_state(root),
    }


def placement() -> dict[str, Any] | None:
    """The GPUs or the job that a launcher gave this process; None on the CPU."""
    told = os.environ.get(PLACEMENT)
    return json.loads(told) if told else None


def caches() -> dict[str, str]:
    """The folders of CACHES that this process was given."""
    return {name: os.environ[name] for name in CACHES if name in os.environ}


def numeric_environment() -> dict[str, str]:
    """The variables of NUMERIC that this process was given."""
    return {name: shown(os.environ[name]) for name in NUMERIC if name in os.environ}


def triton_version() -> str | None:
    """The version of triton, whichever package brings it; None without one."""
    found = package_versions()
    return found.get("triton") or found.get("pytorch-triton-rocm")


def package_versions() -> dict[str, str]:
    """Versions of the installed packages among PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the kernel gives it."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def git_state(root: Path | str) -> dict[str, Any]:
    """Commit and uncommitted changes of the checkout at `root`.

    {commit, dirty, untracked, diff_sha256, diff, diff_truncated}; commit is
    None, with `why`, outside a repository, in a folder of another one, or
    before the first commit.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if isinstance(top, str):
        return {"commit": None, "why": top}
    top = Path(os.fsdecode(top.removesuffix(b"\n")))
    if top.resolve() != Path(root).resolve():
        why = f"not a git repository, but a folder of another one, {top}"
        return {"commit": None, "why": why}
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if isinstance(commit, str):
        return {"commit": None, "why": commit}
    status = _git(root, "status", "--porcelain=v1", "-z")
    diff = _git(root, "diff", "--no-ext-diff", "--no-color", "HEAD")
    if isinstance(status, str) or isinstance(diff, str):
        why = status if isinstance(status, str) else diff
        return {"commit": commit.decode().strip(), "why": why}
    entries = status.decode("utf-8", "replace").split("\0")
    return {
        "commit": commit.decode().strip(),
        "dirty": bool(status),
        "untracked": [entry[3:] for entry in entries if entry.startswith("?? ")],
        "diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
        "diff": diff[:MAX_DIFF].decode("utf-8", "replace"),
        "diff_truncated": len(diff) > MAX_DIFF,
    }


def uncommitted(root: Path | str) -> list[str]:
    """The paths that make `git_state` of the checkout dirty: changed, or untracked and
    not ignored; none outside a repository.
    """
    if git_state(root)["commit"] is None:
        return []
    status = _git(root, "status", "--porcelain=v1", "-z", "--no-renames")
    entries = status.decode("utf-8", "replace") if isinstance(status, bytes) else ""
    return [entry[3:] for entry in entries.split("\0") if entry]


def _git(root: Path | str, *arguments: str) -> bytes | str:
    """git's output, or the reason (str) why there is none."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return "git is not installed"
    if done.returncode:
        return done.stderr.decode("utf-8", "replace").strip()
    return done.stdout
