"""A results directory that is read-only or full: the plan still tells the truth."""

import pytest

from tests.chaos.faults import Volume


@pytest.fixture
def volume(checkout):
    """A file system of its own below results/; skipped where none can be mounted."""
    try:
        volume = Volume(checkout.root / "results")
    except PermissionError as error:
        pytest.skip(str(error))
    yield volume
    volume.writable(True)
    volume.free()
    volume.close()


def test_read_only(checkout, volume):
    assert checkout.run(STEPS="2", SEEDS="1")[0] == 0
    volume.writable(False)
    status, output = checkout.run("plan", CONFIG_GPT2_BLOCK_SIZE="64")
    assert status == 0 and "note: the facts are not kept" in output, output
    status, output = checkout.run("plan")
    assert status == 0 and "toy: 6 cells (5 new, 1 done)" in output, output
    status, output = checkout.run(SEEDS="1")
    assert status == 1 and output.count("cannot be started: ") == 2, output
    volume.writable(True)
    assert checkout.run(SEEDS="1")[0] == 0
    assert {record.state for record in checkout.cells.values()} == {"done"}


def test_full(checkout, volume):
    assert checkout.run(STEPS="2", SEEDS="1")[0] == 0
    volume.fill()
    status, output = checkout.run("plan")
    assert status == 2 and "free: free some" in output
    assert "toy: 6 cells (5 new, 1 done)" in output
    volume.free()
    assert checkout.run(SEEDS="1")[0] == 0
    assert {record.state for record in checkout.cells.values()} == {"done"}
