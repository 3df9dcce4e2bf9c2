"""The trainer itself as jobs of a real Slurm, by the real `make`."""

import pytest

from records.layout import read_record
from tests.e2e.conftest import Checkout

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path):
    checkout = Checkout(tmp_path)
    yield checkout
    checkout.end()


def test_a_tiny_study_trains_and_reports(copy, cluster):
    copy.toy(LAUNCHER_SLURM="y")
    assert copy.make("data").status == 0
    before = set(cluster.jobs())
    done = copy.make(**cluster.environment)
    assert done.status == 0, done.output
    cells = copy.cells()
    assert {name: record.state for name, record in cells.items()} == {
        "00-control/seed-1": "done",
        "01-latent/seed-1": "done",
    }
    jobs = {read_record(record.dir.slurm)["job"] for record in cells.values()}
    assert set(cluster.jobs()) - before == jobs
    for record in cells.values():
        start = record.attempts[0]
        assert start["placement"]["job"] in jobs and start["threads"] == 1
        assert len(record.train) == 20
    assert "report.html" in done.output
