"""The version of the kernel's GPU driver, from files as the kernels write them."""

import platform
from pathlib import Path

import pytest

from records.gpu_readers import driver_version

NVRM = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 2023"


def modules(root: Path, name: str, version: str | None) -> Path:
    (root / name).mkdir()
    if version is not None:
        (root / name / "version").write_text(f"{version}\n")
    return root


def test_of_nvidia(tmp_path):
    place = modules(tmp_path, "nvidia", "580.95.05")
    assert driver_version(False, place, tmp_path / "none") == "580.95.05"
    assert driver_version(True, place) is None, "no AMD here"


@pytest.mark.parametrize("text, version", [(NVRM, "580.159.04"), (CLOSED, "535.54.03")])
def test_of_nvidia_by_its_proc_file(tmp_path, text, version):
    """Where a container shows no modules."""
    (tmp_path / "version").write_text(f"{text}\nGCC version:  gcc version 15.3.0\n")
    assert driver_version(False, tmp_path, tmp_path / "version") == version


def test_of_amd(tmp_path):
    place = modules(tmp_path, "amdgpu", "6.10.5")
    assert driver_version(True, place) == "6.10.5"


def test_of_amd_as_a_part_of_the_kernel(tmp_path):
    place = modules(tmp_path, "amdgpu", None)
    assert driver_version(True, place) == f"Linux {platform.release()}"


def test_where_the_kernel_shows_none(tmp_path):
    assert driver_version(False, tmp_path, tmp_path / "none") is None
    assert driver_version(True, tmp_path) is None
