"""Settings classes: typed values in, frozen instances out, complaints by name."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from kconf import bind
from kconf.bind import SettingsError, build, symbols_of


@dataclass(frozen=True)
class Inner:
    rate: float = bind.real("RATE", above=0.0, high=1.0)
    maybe: float | None = bind.real("MAYBE", optional=True)


@dataclass(frozen=True)
class Outer:
    on: bool = bind.flag("ON")
    count: int = bind.integer("COUNT")
    latent: int | None = bind.integer("LATENT", optional=True)
    label: str = bind.text("LABEL")
    colour: str = bind.one_of(RED="red", BLUE="blue")
    shape: str | None = bind.one_of(optional=True, ROUND="round")
    sinks: tuple[str, ...] = bind.names("SINKS", ("a", "b"))
    inner: Inner = bind.section(Inner)


GOOD = {
    "ON": True,
    "COUNT": 3,
    "LATENT": None,
    "LABEL": "x",
    "RED": False,
    "BLUE": True,
    "ROUND": False,
    "SINKS": "a,b",
    "RATE": "5e-1",
    "MAYBE": None,
}


def test_build():
    made = build(Outer, GOOD)
    assert (made.on, made.count, made.latent, made.label) == (True, 3, None, "x")
    assert (made.colour, made.shape, made.sinks) == ("blue", None, ("a", "b"))
    assert (made.inner.rate, made.inner.maybe) == (0.5, None)
    with pytest.raises(FrozenInstanceError):
        made.count = 4


def test_symbols_of():
    assert sorted(symbols_of(Outer)) == sorted(GOOD)


@pytest.mark.parametrize(
    "symbol, value, why",
    [
        ("ON", 1, "expected bool, found int"),
        ("ON", None, "expected bool, found NoneType"),
        ("COUNT", True, "expected int, found bool"),
        ("COUNT", "3", "expected int, found str"),
        ("COUNT", None, "found NoneType"),
        ("LABEL", 3, "expected str"),
        ("RATE", 0.5, "expected str, found float"),
        ("RATE", "", "is not a number"),
        ("RATE", "half", "is not a number"),
        ("RATE", " 0.5", "plainly written"),
        ("RATE", "0_1", "plainly written"),
        ("RATE", "0.٥", "plainly written"),
        ("RATE", "nan", "not finite"),
        ("RATE", "inf", "not finite"),
        ("RATE", "0", "out of range (above 0, at most 1)"),
        ("RATE", "1.1", "out of range"),
        ("SINKS", "a,c", "'c' is none of a, b"),
        ("SINKS", "", "'' is none of"),
    ],
)
def test_a_refused_value_names_its_symbol(symbol, value, why):
    with pytest.raises(SettingsError) as caught:
        build(Outer, {**GOOD, symbol: value})
    assert caught.value.symbol == symbol and caught.value.value == value
    assert why in caught.value.why and f"CONFIG_{symbol}=" in str(caught.value)


@pytest.mark.parametrize("red", [True, False])
def test_a_choice_has_exactly_one_member(red):
    with pytest.raises(SettingsError, match="exactly one of RED, BLUE"):
        build(Outer, {**GOOD, "RED": red, "BLUE": red})


def test_a_missing_symbol():
    with pytest.raises(SettingsError, match="missing from the configuration"):
        build(Outer, {k: v for k, v in GOOD.items() if k != "COUNT"})


def test_ranges():
    assert bind.ranges("SEEDS", "8-9, 0,2") == (8, 9, 0, 2)
    assert len(bind.ranges("SEEDS", "1-10000")) == 10_000


@pytest.mark.parametrize(
    "raw, why",
    [
        ("1-²", "'1-²' is not a number"),
        ("²", "is not a number"),
        ("٣", "'٣' is not a number"),
        ("1-", "is not a number"),
        ("3-1", "the range '3-1' is reversed"),
        ("1-3,2", "2 is named twice"),
        ("0-10000", "names more than 10,000 numbers"),
        ("1-9000,9001-10001", "names more than 10,000 numbers"),
        ("1-" + "9" * 5000, "has over 18 digits"),
    ],
)
def test_ranges_that_are_refused(raw, why):
    with pytest.raises(SettingsError, match=why):
        bind.ranges("SEEDS", raw)
