"""The points of CONFIG_TUNE: values of the optimizer's symbols that every arm tries.

    CONFIG_TUNE="LEARNING_RATE=3e-4,6e-4,1.2e-3;WEIGHT_DECAY=0,0.1"      their product
    CONFIG_TUNE="LEARNING_RATE=1e-4..2e-3;ADAM_BETA2=0.9..0.99:linear"   Sobol points

Of a range CONFIG_TUNE_POINTS scrambled Sobol points are taken, over the logarithm
unless it ends with :linear, always the same ones. The points do not depend on the arm,
so every arm has the same budget.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Mapping, Sequence

from kconf.bind import SettingsError, plainly
from kconf.points import Point
from kconf.tree import Facts
from matrix.settings import TuningSettings

MENU = "Optimizer"
"""The menu whose symbols may be tuned: how an arm is trained, not what it is."""
SOBOL_SEED = 0
"""Scrambles the Sobol points; stands in tuning.json."""
DIGITS = 3
MOST = 1024
LINEAR = ":linear"


@dataclass(frozen=True)
class Range:
    """From low to high, both included."""

    low: float
    high: float
    linear: bool

    def at(self, share: float) -> float:
        """The value at a share from 0 to 1 of the way."""
        if self.linear:
            return self.low + share * (self.high - self.low)
        return self.low * (self.high / self.low) ** share


def points_of(tree: Facts, settings: TuningSettings) -> list[dict[str, str]]:
    """Every point, in order: the raw value of each tuned symbol.

    Raises SettingsError for a symbol that cannot be tuned, values that cannot be read,
    lists and ranges together, and a number of points that does not fit them.
    """
    raw = settings.symbols
    axes = {s: _values(raw, text) for s, text in _parts(raw).items()}
    for symbol in axes:
        if why := _unfit(tree, symbol):
            raise SettingsError("TUNE", raw, f"CONFIG_{symbol} {why}")
    ranged = {s: axis for s, axis in axes.items() if isinstance(axis, Range)}
    if ranged and len(ranged) < len(axes):
        raise SettingsError(
            "TUNE", raw, "has lists and ranges: make it all of one kind"
        )
    if ranged:
        points = _sobol(tree, ranged, settings.points)
    elif settings.points:
        why = "is for ranges: the points of lists are their combinations; set it to 0"
        raise SettingsError("TUNE_POINTS", settings.points, why)
    else:
        points = [dict(zip(axes, each)) for each in itertools.product(*axes.values())]
    if len({tuple(point.items()) for point in points}) < len(points):
        raise SettingsError("TUNE", raw, "has two equal points: widen the ranges")
    if not 2 <= len(points) <= MOST:
        why = f"has {len(points)} points: a tuning tries 2 to {MOST:,}"
        raise SettingsError("TUNE", raw, why)
    return points


def trial_id(step: str, point: Mapping[str, str]) -> str:
    """The name of a step at a point: 02-golden-ratio-learning-rate-3e-4."""
    return f"{step}-{Point(symbols=tuple(point.items())).id}"


def at_edge(
    points: Sequence[Mapping[str, str]], chosen: Mapping[str, str]
) -> list[str]:
    """A line per symbol whose chosen value is the lowest or highest of several tried."""
    lines = []
    for symbol, value in chosen.items():
        tried = sorted({float(point[symbol]) for point in points})
        if len(tried) > 1 and float(value) in (tried[0], tried[-1]):
            word = "lowest" if float(value) == tried[0] else "highest"
            lines.append(f"CONFIG_{symbol}={value} is the {word} tried")
    return lines


def _parts(raw: str) -> dict[str, str]:
    """{"LEARNING_RATE": "3e-4,6e-4"} of "LEARNING_RATE=3e-4,6e-4;…"."""
    found: dict[str, str] = {}
    for part in map(str.strip, raw.split(";")):
        name, equals, listed = part.partition("=")
        symbol = name.strip().removeprefix("CONFIG_")
        if not equals or not listed.strip() or not symbol.isidentifier():
            why = f"{part!r} is neither SYMBOL=value,value nor SYMBOL=low..high"
            raise SettingsError("TUNE", raw, why)
        if symbol in found:
            raise SettingsError("TUNE", raw, f"names CONFIG_{symbol} twice")
        found[symbol] = listed.strip()
    return found


def _values(raw: str, listed: str) -> Range | tuple[str, ...]:
    """The range, or the values as they are written, each number once."""
    low, dots, rest = listed.partition("..")
    if dots:
        linear = rest.endswith(LINEAR)
        ends = _number(raw, low), _number(raw, rest.removesuffix(LINEAR))
        if ends[0] >= ends[1]:
            raise SettingsError("TUNE", raw, f"the range {listed} is empty")
        if not linear and ends[0] <= 0:
            why = f"{listed} has no logarithm: write {listed}{LINEAR}"
            raise SettingsError("TUNE", raw, why)
        return Range(*ends, linear)
    values = tuple(map(str.strip, listed.split(",")))
    if len({_number(raw, value) for value in values}) < len(values):
        raise SettingsError("TUNE", raw, f"{listed} names a number twice")
    return values


def _number(raw: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not plainly(text.strip()):
        raise SettingsError("TUNE", raw, f"{text.strip()!r} is not a number")
    return number


def _unfit(tree: Facts, symbol: str) -> str | None:
    """Why a symbol cannot be tuned; None for one that can."""
    if symbol not in tree.symbols:
        return f"is not defined{tree.nearest(symbol)}"
    if tree.menus(symbol)[:1] != (MENU,):
        return f"is not of the menu {MENU!r}: it says what an arm is, or its budget"
    if tree.kind(symbol) == "bool":
        return "is no number"
    return None


def _sobol(
    tree: Facts, ranged: Mapping[str, Range], count: int
) -> list[dict[str, str]]:
    """`count` scrambled Sobol points, numbers of DIGITS significant digits."""
    if count < 2 or count & (count - 1):
        why = "is no power of two: Sobol points are spread evenly in those"
        raise SettingsError("TUNE_POINTS", count, why)
    from scipy.stats import qmc  # a second that plans without ranges are spared

    sampler = qmc.Sobol(len(ranged), scramble=True, rng=SOBOL_SEED)
    return [
        {
            symbol: _written(axis.at(share), tree.kind(symbol))
            for (symbol, axis), share in zip(ranged.items(), row.tolist())
        }
        for row in sampler.random(count)
    ]


def _written(value: float, kind: str) -> str:
    return str(round(value)) if kind == "int" else f"{value:.{DIGITS}g}"
