"""A short storm; `make chaos` is the long one."""

import pytest

from tests.chaos.faults import Volume
from tests.chaos.storm import Storm
from tests.e2e.conftest import Checkout


@pytest.mark.slow
def test_eight_faults(tmp_path):
    try:
        Volume(tmp_path / "probe").close()
    except PermissionError as error:
        pytest.skip(str(error))
    checkout = Checkout(tmp_path)
    try:
        storm = Storm(checkout, 3, print)
        storm.prepare()
        storm.rage(8)
    finally:
        checkout.end()
    assert sum(storm.spent.values()) >= 8 and storm.attempts > 4
