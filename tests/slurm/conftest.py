"""One cluster for all tests of this folder, and a study of stubs that uses it."""

import pytest

from matrix import run
from tests.matrix.conftest import Checkout
from tests.slurm.cluster import Cluster, missing

JOBS = ("DEVICE_CUDA=y", "LAUNCHER_SLURM=y", "SLURM_CPUS=1")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running Slurm; the tests are skipped with the reason where none can run."""
    why = missing()
    if why:
        pytest.skip(why)
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def study(cluster, tmp_path, monkeypatch):
    """A study of stubs on fake GPUs, whose `make` talks to the cluster."""
    monkeypatch.setattr(run, "_report", lambda plan: None)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    checkout = Checkout(tmp_path)
    checkout.base = checkout.base.replace("CONFIG_DEVICE_CPU=y\n", "")
    checkout.base += "".join(f"CONFIG_{line}\n" for line in JOBS)
    checkout.configure()
    yield checkout
    cluster.end_jobs()
