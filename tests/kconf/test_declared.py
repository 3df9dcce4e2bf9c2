"""Values of a record against what Kconfig declares."""

import pytest

from kconf.bind import SettingsError
from kconf.declared import require_declared
from kconf.tree import Facts
from tests.conftest import ROOT

FACTS = Facts(ROOT)


def test_what_a_merge_gives_is_declared(resolve):
    require_declared(FACTS, resolve())


@pytest.mark.parametrize("value", [None, False, ""])
def test_a_symbol_that_is_no_more_and_does_nothing(value):
    require_declared(FACTS, {"GONE": value})


def test_a_symbol_that_is_no_more_and_never_changed_a_result():
    require_declared(FACTS, {"GONE": 3}, operational={"GONE"})


@pytest.mark.parametrize(
    "symbol, value, why",
    [
        ("GONE", True, "CONFIG_GONE=y: no such symbol in this checkout"),
        ("GONE", 0, "CONFIG_GONE=0: no such symbol in this checkout"),
        ("GPT2_LAYERS", 257, "CONFIG_GPT2_LAYERS=257: is out of range .1 to 256"),
        ("GPT2_LAYERS", 0, "is out of range"),
        ("MLA_LATENT", 0, "is out of range .1 to 65536"),
        ("GPT2_LAYERS", True, "expected int, found bool"),
        ("GPT2_LAYERS", 2.0, "expected int, found float"),
        ("GPT2_LAYERS", [2], "expected int, found list"),
        ("RA", 1, "expected bool, found int"),
        ("RA", None, "expected bool, found NoneType"),
        ("RA_ALPHA", 0.3, "expected string, found float"),
    ],
)
def test_what_no_merge_gives(symbol, value, why):
    with pytest.raises(SettingsError, match=why):
        require_declared(FACTS, {symbol: value})
