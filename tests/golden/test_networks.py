"""No network changes unless networks.json says so."""

import pytest

from gpt2.measure.networks import Configuration, configurations
from tests.golden.networks import ROOT, figures, stored

RENEW = "meant? python -m tests.golden.networks"


@pytest.fixture(scope="module")
def known() -> dict[str, Configuration]:
    return {one.name: one for one in configurations(ROOT)}


@pytest.mark.parametrize("name", stored())
def test_the_network_is_what_it_was(known, name):
    assert name in known, RENEW
    assert figures(known[name]) == stored()[name], RENEW


def test_every_network_is_stored(known):
    held = {known[name].network for name in stored() if name in known}
    missing = sorted({one.name for one in known.values() if one.network not in held})
    assert not missing, RENEW
