"""Help for what a disk causes, by its own reason, and for nothing else."""

import errno
import os

import pytest

from records.refused import explanation

OTHER = "or choose another OUTPUT="


def refusal(number: int, name: str | None = "/data/run.json") -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.mark.parametrize(
    "number, help_",
    [
        (errno.ENOSPC, f"free space there, {OTHER}"),
        (errno.EDQUOT, f"free space there or have the quota raised, {OTHER}"),
        (errno.EROFS, f"mount it for writing, {OTHER}"),
        (errno.EACCES, f"free the permissions there, {OTHER}"),
        (errno.EEXIST, f"something else stands there; move it away, {OTHER}"),
        (errno.EIO, "look after the disk (dmesg)"),
        (errno.EMFILE, "raise the limit on open files (ulimit -n)"),
    ],
)
def test_what_a_disk_causes(number, help_):
    said = explanation(refusal(number), OTHER)
    assert said == f"/data/run.json: {os.strerror(number)}: {help_}"


@pytest.mark.parametrize(
    "number",
    [errno.ECONNREFUSED, errno.ENOENT, errno.EPIPE, errno.ENOMEM, errno.ECHILD],
)
def test_what_no_disk_causes(number):
    assert (
        explanation(refusal(number), OTHER) == f"/data/run.json: {os.strerror(number)}"
    )
    assert explanation(refusal(number, None), OTHER) == os.strerror(number)


def test_an_error_without_a_number():
    assert explanation(OSError("sbatch: no such partition"), OTHER) == (
        "sbatch: no such partition"
    )
